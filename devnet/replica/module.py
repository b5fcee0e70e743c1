"""Makes a canister's hidden state reachable: exports its memory, table, mutable globals and start function.

A replica throws away what a trapped message wrote, so it must read and restore everything a message can change,
and a start function would run before kept memory could be put back. This edit of the export section (and removal
of the start section) is the only change made to the module; its code is untouched. Tables and segments are taken to
be constant, as the compilers of Motoko and Rust leave them: a module that rewrites its table or drops segments is
not supported.

A malformed module raises `ModuleRefused`, and the engine validates the result again.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from foundation import leb128
from foundation.refusal import Refused

GLOBAL_EXPORT: Final = "devnet:global:"
START_EXPORT: Final = "devnet:start"
MEMORY_EXPORT: Final = "devnet:memory"
TABLE_EXPORT: Final = "devnet:table"
PUBLIC: Final = "icp:public "
PRIVATE: Final = "icp:private "

_CUSTOM, _IMPORT, _TABLE, _MEMORY, _GLOBAL, _EXPORT, _START = 0, 2, 4, 5, 6, 7, 8
_FUNCTION_KIND, _TABLE_KIND, _MEMORY_KIND, _GLOBAL_KIND = 0, 1, 2, 3
_MAGIC: Final = b"\0asm\1\0\0\0"
_GZIP: Final = b"\x1f\x8b\x08"
_UNPACKED_BYTES_MAX: Final = 100 << 20
_WIDE: Final = 0x04  # of a memory's limits: 64-bit addresses


class ModuleRefused(Refused):
    stage = "devnet.module"


@dataclass(frozen=True, slots=True)
class Reachable:
    """The edited module and the names under which its state is exported."""

    wasm: bytes
    global_names: tuple[str, ...]
    has_table: bool
    pointer: str  # `i32` or `i64`: how wide the module's addresses are
    custom_sections: Mapping[str, bytes]

    def metadata(self, name: str) -> tuple[bytes, bool] | None:
        """A custom section `icp:public NAME` or `icp:private NAME`, and whether it is public."""
        for prefix, public in ((PUBLIC, True), (PRIVATE, False)):
            if (found := self.custom_sections.get(prefix + name)) is not None:
                return found, public
        return None


class _Reader:
    def __init__(self, data: bytes, at: int = 0) -> None:
        self.data, self.at = data, at

    def take(self, count: int) -> bytes:
        if self.at + count > len(self.data):
            raise ModuleRefused("truncated", expected=f"{count} bytes", got=len(self.data) - self.at)
        self.at += count
        return self.data[self.at - count : self.at]

    def byte(self) -> int:
        return self.take(1)[0]

    def unsigned(self) -> int:
        value = shift = 0
        while True:
            byte = self.byte()
            value |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                return value

    def name(self) -> str:
        try:
            return self.take(self.unsigned()).decode()
        except UnicodeDecodeError:
            raise ModuleRefused("name", expected="UTF-8", got="bytes that are not UTF-8") from None

    def limits(self) -> None:
        flags = self.byte()
        self.unsigned()
        if flags & 1:
            self.unsigned()

    def constant_expression(self) -> None:
        """Steps over an initialiser: constants, `global.get`, references, and their `end`."""
        while (opcode := self.byte()) != 0x0B:
            match opcode:
                case 0x41 | 0x42 | 0x23 | 0xD2 | 0xD0:  # i32/i64.const, global.get, ref.func, ref.null
                    self.unsigned()
                case 0x43:
                    self.take(4)
                case 0x44:
                    self.take(8)
                case _:
                    raise ModuleRefused("global.initialiser", expected="a constant", got=hex(opcode))


def _section(number: int, body: bytes) -> bytes:
    return bytes([number]) + leb128.unsigned(len(body)) + body


def _sections(wasm: bytes) -> Iterator[tuple[int, bytes]]:
    if not wasm.startswith(_MAGIC):
        raise ModuleRefused("magic", expected="a WebAssembly 1 module", got=wasm[:8].hex())
    reader = _Reader(wasm, len(_MAGIC))
    while reader.at < len(wasm):
        number = reader.byte()
        yield number, reader.take(reader.unsigned())


def _imported_globals(body: bytes) -> list[bool]:
    """For each imported global, whether it is mutable."""
    reader, mutable = _Reader(body), []
    for _ in range(reader.unsigned()):
        reader.name(), reader.name()
        match reader.byte():
            case 0:
                reader.unsigned()
            case 1:
                reader.byte()
                reader.limits()
            case 2:
                reader.limits()
            case 3:
                reader.byte()
                mutable.append(reader.byte() == 1)
            case kind:
                raise ModuleRefused("import.kind", expected="0 to 3", got=kind)
    return mutable


def _defined_globals(body: bytes) -> list[bool]:
    reader, mutable = _Reader(body), []
    for _ in range(reader.unsigned()):
        reader.byte()
        mutable.append(reader.byte() == 1)
        reader.constant_expression()
    return mutable


def _exports_with(body: bytes, added: list[tuple[str, int, int]]) -> bytes:
    reader = _Reader(body)
    count = reader.unsigned()
    entries = b"".join(
        leb128.unsigned(len(name.encode())) + name.encode() + bytes([kind]) + leb128.unsigned(index)
        for name, kind, index in added
    )
    return leb128.unsigned(count + len(added)) + body[reader.at :] + entries


def _count(body: bytes | None) -> int:
    return _Reader(body).unsigned() if body else 0


def _is_wide(body: bytes | None) -> bool:
    """Whether the first memory has 64-bit addresses."""
    if not body:
        return False
    reader = _Reader(body)
    return reader.unsigned() > 0 and bool(reader.byte() & _WIDE)


def unpacked(wasm: bytes) -> bytes:
    """The module itself, of one that may be compressed with gzip as installers send it."""
    if not wasm.startswith(_GZIP):
        return wasm
    packed = zlib.decompressobj(wbits=31)
    try:
        module = packed.decompress(wasm, _UNPACKED_BYTES_MAX)
    except zlib.error:
        raise ModuleRefused("gzip", expected="gzip", got=f"{len(wasm)} bytes of another form") from None
    if not packed.eof:
        raise ModuleRefused(
            "gzip",
            expected=f"a module of at most {_UNPACKED_BYTES_MAX} bytes",
            got=f"{len(module)} bytes, cut off or with more behind them",
        )
    return module


def make_reachable(wasm: bytes) -> Reachable:
    """The module with its state exported. Raises `ModuleRefused` for shapes this does not understand."""
    sections = list(_sections(wasm))
    bodies = {number: body for number, body in sections if number != _CUSTOM}
    mutable = _imported_globals(bodies.get(_IMPORT, b"\0")) + _defined_globals(bodies.get(_GLOBAL, b"\0"))
    added = [(f"{GLOBAL_EXPORT}{index}", _GLOBAL_KIND, index) for index, changes in enumerate(mutable) if changes]
    names = tuple(name for name, _, _ in added)
    memories, tables = _count(bodies.get(_MEMORY)), _count(bodies.get(_TABLE))
    if memories > 1 or tables > 1:
        raise ModuleRefused("state", expected="at most one memory and one table", got=f"{memories} and {tables}")
    added += [(MEMORY_EXPORT, _MEMORY_KIND, 0)] * memories + [(TABLE_EXPORT, _TABLE_KIND, 0)] * tables
    if start := bodies.get(_START):
        added.append((START_EXPORT, _FUNCTION_KIND, _Reader(start).unsigned()))
    if _EXPORT not in bodies:
        raise ModuleRefused("exports", expected="an export section", got="none")
    edited = b"".join(
        _section(number, _exports_with(body, added) if number == _EXPORT else body)
        for number, body in sections
        if number != _START
    )
    custom: dict[str, bytes] = {}
    for number, body in sections:
        if number == _CUSTOM:
            reader = _Reader(body)
            name = reader.name()
            custom[name] = body[reader.at :]
    pointer = "i64" if _is_wide(bodies.get(_MEMORY)) else "i32"
    return Reachable(_MAGIC + edited, names, tables > 0, pointer, custom)


def exported_functions(wasm: bytes) -> frozenset[str]:
    """The names under which the module exports functions."""
    reader = _Reader(dict(_sections(wasm)).get(_EXPORT, b"\0"))
    names = set()
    for _ in range(reader.unsigned()):
        name, kind = reader.name(), reader.byte()
        reader.unsigned()
        if kind == _FUNCTION_KIND:
            names.add(name)
    return frozenset(names)
