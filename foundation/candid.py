"""Candid, the part our canisters' interfaces use: numbers, text, blobs, options, vectors, records, variants.

A type is a value of this module, written once and used both ways:

    Ticket = Record({"height": NAT64, "link": BLOB})
    encode([Ticket], [{"height": 1, "link": b"..."}])
    decode([Ticket], reply)

Python values: `int`, `str`, `bytes` (principals and blobs), `None` or the value (options), `list`, `dict`
(records), `(tag, value)` (variants). Decoding follows the subtyping a caller needs: unknown record fields are
skipped, a missing optional field is `None`. Never hash Candid bytes: two encoders may differ, both right.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, TypeAlias

from foundation import leb128
from foundation.refusal import Refused, shown

MAGIC = b"DIDL"
DEPTH_MAX = 32
TYPES_MAX = 1_024
ITEMS_MAX = 1_000_000

_OPT, _VEC, _RECORD, _VARIANT = -18, -19, -20, -21


class CandidRefused(Refused):
    stage = "candid"


@dataclass(frozen=True, slots=True)
class Primitive:
    code: int
    name: str


@dataclass(frozen=True, slots=True)
class Opt:
    of: Type


@dataclass(frozen=True, slots=True)
class Vec:
    of: Type


class _Fields:
    """Named fields in the order Candid wants them: by the hash of the name."""

    __slots__ = ("_hash", "fields")

    def __init__(self, fields: Mapping[str, Type]) -> None:
        ordered = sorted((label(name), name, of) for name, of in fields.items())
        self.fields: tuple[tuple[int, str, Type], ...] = tuple(ordered)
        self._hash = hash((type(self), self.fields))

    def __eq__(self, other: object) -> bool:
        return type(other) is type(self) and isinstance(other, _Fields) and other.fields == self.fields

    def __hash__(self) -> int:
        return self._hash


class Record(_Fields):
    __slots__ = ()


class Variant(_Fields):
    __slots__ = ()


Type: TypeAlias = Primitive | Opt | Vec | Record | Variant

NULL = Primitive(-1, "null")
BOOL = Primitive(-2, "bool")
NAT = Primitive(-3, "nat")
NAT8 = Primitive(-5, "nat8")
NAT32 = Primitive(-7, "nat32")
NAT64 = Primitive(-8, "nat64")
INT32 = Primitive(-11, "int32")
INT64 = Primitive(-12, "int64")
TEXT = Primitive(-15, "text")
PRINCIPAL = Primitive(-24, "principal")
BLOB = Vec(NAT8)

# Those without a name here are read over in fields nobody asked for, and never written.
_WIDTHS = {
    NAT8: 1,
    Primitive(-6, "nat16"): 2,
    NAT32: 4,
    NAT64: 8,
    Primitive(-9, "int8"): 1,
    Primitive(-10, "int16"): 2,
    INT32: 4,
    INT64: 8,
    Primitive(-13, "float32"): 4,
    Primitive(-14, "float64"): 8,
}
_INT, _RESERVED = Primitive(-4, "int"), Primitive(-16, "reserved")
_SIGNED = frozenset({INT32, INT64})
_PRIMITIVES = {of.code: of for of in (NULL, BOOL, NAT, _INT, TEXT, _RESERVED, PRINCIPAL, *_WIDTHS)}


def label(name: str) -> int:
    """The 32-bit hash that stands for a field name on the wire."""
    value = 0
    for byte in name.encode():
        value = (value * 223 + byte) % 2**32
    return value


# ---- encoding


class _TypeTable:
    def __init__(self) -> None:
        self._numbers: dict[Type, int] = {}
        self.entries: list[bytes] = []

    def reference(self, of: Type) -> bytes:
        if isinstance(of, Primitive):
            return leb128.signed(of.code)
        if of not in self._numbers:
            self._numbers[of] = len(self.entries)
            self.entries.append(b"")
            self.entries[self._numbers[of]] = self._entry(of)
        return leb128.signed(self._numbers[of])

    def _entry(self, of: Opt | Vec | Record | Variant) -> bytes:
        if isinstance(of, Opt):
            return leb128.signed(_OPT) + self.reference(of.of)
        if isinstance(of, Vec):
            return leb128.signed(_VEC) + self.reference(of.of)
        fields = b"".join(leb128.unsigned(number) + self.reference(field) for number, _, field in of.fields)
        code = _RECORD if isinstance(of, Record) else _VARIANT
        return leb128.signed(code) + leb128.unsigned(len(of.fields)) + fields


def encode(types: Sequence[Type], values: Sequence[Any]) -> bytes:
    body = b"".join(_encoded(of, value) for of, value in zip(types, values, strict=True))
    return _preamble(tuple(types)) + body


@lru_cache(maxsize=128)
def _preamble(types: tuple[Type, ...]) -> bytes:
    """Everything before the values: the same for every message of one method."""
    table = _TypeTable()
    references = b"".join(table.reference(of) for of in types)
    entries = b"".join(table.entries)
    return MAGIC + leb128.unsigned(len(table.entries)) + entries + leb128.unsigned(len(types)) + references


def _encoded(of: Type, value: Any) -> bytes:
    match of:
        case Primitive():
            return _encoded_primitive(of, value)
        case Opt():
            return b"\0" if value is None else b"\1" + _encoded(of.of, value)
        case Vec():
            if of == BLOB:
                return leb128.unsigned(len(value)) + bytes(value)
            return leb128.unsigned(len(value)) + b"".join(_encoded(of.of, item) for item in value)
        case Record():
            return b"".join(_encoded(field, value[name]) for _, name, field in of.fields)
        case Variant():
            tag, inner = value
            for index, (_, name, field) in enumerate(of.fields):
                if name == tag:
                    return leb128.unsigned(index) + _encoded(field, inner)
    raise CandidRefused("variant.tag", expected="a tag of the variant", got=shown(value[0]))


def _encoded_primitive(of: Primitive, value: Any) -> bytes:
    if of in _WIDTHS:
        return int(value).to_bytes(_WIDTHS[of], "little", signed=of in _SIGNED)
    if of == NULL:
        return b""
    if of == BOOL:
        return bytes([bool(value)])
    if of == NAT:
        return leb128.unsigned(value)
    if of == TEXT:
        utf8: bytes = value.encode()
        return leb128.unsigned(len(utf8)) + utf8
    return b"\1" + leb128.unsigned(len(value)) + bytes(value)


# ---- decoding


@dataclass(frozen=True, slots=True)
class _Wire:
    """One entry of a message's own type table. `parts` are (label or 0, type reference)."""

    code: int
    parts: tuple[tuple[int, int], ...]


class _Reader:
    def __init__(self, data: bytes) -> None:
        self.data, self.at = data, 0
        self.values_left = ITEMS_MAX
        self.table: list[_Wire] = []

    def take(self, count: int) -> bytes:
        if count > len(self.data) - self.at:
            raise CandidRefused("truncated", expected=f"{count} bytes", got=len(self.data) - self.at)
        self.at += count
        return self.data[self.at - count : self.at]

    def unsigned(self, maximum: int = 2**64 - 1) -> int:
        value = shift = 0
        while True:
            byte = self.take(1)[0]
            value |= (byte & 0x7F) << shift
            if value > maximum:
                raise CandidRefused("number", expected=f"at most {maximum}", got=f"{value} or more")
            shift += 7
            if byte < 0x80:
                return value

    def signed(self) -> int:
        value = shift = 0
        while shift < 64:
            byte = self.take(1)[0]
            value |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                return value - (1 << shift) if byte & 0x40 else value
        raise CandidRefused("number", expected="at most 64 bits", got=f"a number of over {shift} bits")

    def read_table(self) -> None:
        for _ in range(self.unsigned(TYPES_MAX)):
            code = self.signed()
            if code in (_OPT, _VEC):
                parts = [(0, self.signed())]
            elif code in (_RECORD, _VARIANT):
                parts = [(self.unsigned(2**32 - 1), self.signed()) for _ in range(self.unsigned(TYPES_MAX))]
            else:
                raise CandidRefused("type", expected="opt, vec, record or variant", got=code)
            self.table.append(_Wire(code, tuple(parts)))

    def wire(self, reference: int) -> Primitive | _Wire:
        if reference >= 0:
            if reference >= len(self.table):
                raise CandidRefused("type", expected=f"below {len(self.table)}", got=reference)
            return self.table[reference]
        if reference not in _PRIMITIVES:
            raise CandidRefused("type", expected="a primitive of this codec", got=reference)
        return _PRIMITIVES[reference]

    def primitive(self, of: Primitive) -> Any:
        if of in _WIDTHS:
            return int.from_bytes(self.take(_WIDTHS[of]), "little", signed=of in _SIGNED)
        if of in (NULL, _RESERVED):
            return None
        if of == _INT:
            return self.signed()
        if of == BOOL:
            return self.take(1) != b"\0"
        if of == NAT:
            return self.unsigned()
        if of == PRINCIPAL:
            if self.take(1) != b"\1":
                raise CandidRefused("principal", expected="a transparent reference", got="an opaque reference")
            return self.take(self.unsigned(29))
        try:
            return self.take(self.unsigned(len(self.data))).decode()
        except UnicodeDecodeError:
            raise CandidRefused("text", expected="UTF-8", got="bytes that are not UTF-8") from None

    def value(self, reference: int, of: Type | None, depth: int) -> Any:
        """The next value, read by its wire type and shaped by `of`; with no `of`, skipped."""
        if depth > DEPTH_MAX:
            raise CandidRefused("depth", expected=f"at most {DEPTH_MAX}", got=f"level {depth}")
        # Values of no bytes cost nothing to send: vectors of null, records of records of nothing.
        self.values_left -= 1
        if self.values_left < 0:
            raise CandidRefused("items", expected=f"at most {ITEMS_MAX} values", got=f"more than {ITEMS_MAX}")
        wire = self.wire(reference)
        if isinstance(wire, Primitive):
            self._check(wire.name, of, of == wire or (isinstance(of, Opt) and wire == NULL))
            return self.primitive(wire)
        match wire.code:
            case -18:
                self._check("opt", of, isinstance(of, Opt))
                inner = of.of if isinstance(of, Opt) else None
                return self.value(wire.parts[0][1], inner, depth + 1) if self.take(1) == b"\1" else None
            case -19:
                return self._vector(wire, of, depth)
            case -20:
                return self._record(wire, of, depth)
            case _:
                return self._variant(wire, of, depth)

    def _check(self, wire: str, of: Type | None, fits: bool) -> None:
        if of is not None and not fits:
            raise CandidRefused("type", expected=type(of).__name__.lower(), got=wire)

    def _vector(self, wire: _Wire, of: Type | None, depth: int) -> Any:
        self._check("vec", of, isinstance(of, Vec))
        inner = of.of if isinstance(of, Vec) else None
        reference = wire.parts[0][1]
        if self.wire(reference) == NAT8 and inner in (NAT8, None):
            return self.take(self.unsigned(len(self.data)))
        if inner == NAT8:  # even of no elements, another vector is not a blob
            raise CandidRefused("type", expected="blob", got="a vec whose elements are not nat8")
        return [self.value(reference, inner, depth + 1) for _ in range(self.unsigned(ITEMS_MAX))]

    def _record(self, wire: _Wire, of: Type | None, depth: int) -> Any:
        self._check("record", of, isinstance(of, Record))
        fields = of.fields if isinstance(of, Record) else ()
        wanted = {number: (name, field) for number, name, field in fields}
        found: dict[str, Any] = {}
        for number, reference in wire.parts:
            name, field = wanted.get(number, ("", None))
            value = self.value(reference, field, depth + 1)
            if name:
                found[name] = value
        for name, field in wanted.values():
            if name not in found:
                if not isinstance(field, Opt):
                    raise CandidRefused("record.field", expected=name, got="none")
                found[name] = None
        return found

    def _variant(self, wire: _Wire, of: Type | None, depth: int) -> Any:
        self._check("variant", of, isinstance(of, Variant))
        index = self.unsigned()
        if index >= len(wire.parts):
            raise CandidRefused("variant.index", expected=f"below {len(wire.parts)}", got=index)
        number, reference = wire.parts[index]
        for known, name, field in of.fields if isinstance(of, Variant) else ():
            if known == number:
                return name, self.value(reference, field, depth + 1)
        if of is None:
            return self.value(reference, None, depth + 1)
        raise CandidRefused("variant.tag", expected="a tag of the variant", got=number)


def decode(types: Sequence[Type], data: bytes) -> list[Any]:
    """Exactly these arguments and nothing after them. Raises `CandidRefused` alone."""
    reader = _Reader(data)
    if reader.take(len(MAGIC)) != MAGIC:
        raise CandidRefused("magic", expected=MAGIC.decode(), got=shown(data[: len(MAGIC)]))
    reader.read_table()
    count = reader.unsigned(TYPES_MAX)
    if count != len(types):
        raise CandidRefused("arguments", expected=len(types), got=count)
    references = [reader.signed() for _ in range(count)]
    values = [reader.value(reference, of, 0) for reference, of in zip(references, types, strict=True)]
    if reader.at != len(data):
        raise CandidRefused("trailing", expected="nothing after the arguments", got=len(data) - reader.at)
    return values
