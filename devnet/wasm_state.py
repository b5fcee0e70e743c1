"""Makes a canister's hidden state reachable: exports its mutable globals and its start function.

A replica throws away what a trapped message wrote, so the shim must read and restore everything a message can
change. Linear memory is exported already; mutable globals are not, and a start function would run before kept
memory could be put back. This edit of the export section (and removal of the start section) is the only
change made to the module; its code is untouched. Tables and segments are taken to be constant, as the Motoko
compiler leaves them: a module that rewrites its table or drops segments is not supported.

The input is a module we built or pinned, not untrusted bytes: a malformed one raises `ModuleRefused`, and the
engine validates the result again.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from foundation.refusal import Refused

GLOBAL_EXPORT = "devnet:global:"
START_EXPORT = "devnet:start"

_CUSTOM, _IMPORT, _GLOBAL, _EXPORT, _START = 0, 2, 6, 7, 8
_FUNCTION_KIND, _GLOBAL_KIND = 0, 3
_MAGIC = b"\0asm\1\0\0\0"


class ModuleRefused(Refused):
    stage = "devnet.module"


@dataclass(frozen=True, slots=True)
class Reachable:
    """The edited module and the names under which its state is exported."""

    wasm: bytes
    global_names: tuple[str, ...]
    has_start: bool
    custom_sections: frozenset[str]


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
        return self.take(self.unsigned()).decode()

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


def _unsigned(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def _section(number: int, body: bytes) -> bytes:
    return bytes([number]) + _unsigned(len(body)) + body


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
        _unsigned(len(name.encode())) + name.encode() + bytes([kind]) + _unsigned(index)
        for name, kind, index in added
    )
    return _unsigned(count + len(added)) + body[reader.at :] + entries


def make_reachable(wasm: bytes) -> Reachable:
    """The module with its state exported. Raises `ModuleRefused` for shapes this does not understand."""
    sections = list(_sections(wasm))
    bodies = {number: body for number, body in sections if number != _CUSTOM}
    mutable = _imported_globals(bodies.get(_IMPORT, b"\0")) + _defined_globals(bodies.get(_GLOBAL, b"\0"))
    added = [
        (f"{GLOBAL_EXPORT}{index}", _GLOBAL_KIND, index) for index, changes in enumerate(mutable) if changes
    ]
    names = tuple(name for name, _, _ in added)
    if start := bodies.get(_START):
        added.append((START_EXPORT, _FUNCTION_KIND, _Reader(start).unsigned()))
    if _EXPORT not in bodies:
        raise ModuleRefused("exports", expected="an export section", got="none")
    edited = b"".join(
        _section(number, _exports_with(body, added) if number == _EXPORT else body)
        for number, body in sections
        if number != _START
    )
    custom = frozenset(_Reader(body).name() for number, body in sections if number == _CUSTOM)
    return Reachable(_MAGIC + edited, names, start is not None, custom)
