"""Deterministic CBOR: the one encoding of ours that is hashed or signed (docs/spec/encoding.md).

    encode(value)        -> bytes    the only encoding of that value (RFC 8949 section 4.2.1)
    decode(data)         -> value    accepts nothing but what `encode` makes: encode(decode(x)) == x
    decode_foreign(data) -> value    for bytes others made: map order is free, all else is as strict

Integers from -2^64 to 2^64-1, byte strings, text, arrays, maps, true, false, null and the tags a caller
names. No floats, no undefined, no indefinite lengths. Arrays come back as lists, maps as dicts.

Establishes only that bytes have one reading; whether it is of the right shape is the caller's to say.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NoReturn, TypeAlias, Union

from foundation.refusal import Refuse, Refused

SELF_DESCRIBED = 55799
"""The tag that says "this is CBOR" and nothing else: the Internet Computer puts it before its values."""

DEPTH_MAX = 256
"""No limit may allow more: `encode` recurses, and this stays well inside the interpreter's own bound."""


class CborRefused(Refused):
    """Bytes that are not CBOR as we accept it, or a value that has no such encoding."""

    stage = "cbor"

    def __init__(self, code: str, *, expected: object, got: object, offset: int | None = None) -> None:
        where = "" if offset is None else f" at byte {offset}"
        super().__init__(f"cbor.{code}", expected=expected, got=f"{got}{where}")
        self.offset = offset


@dataclass(frozen=True, slots=True)
class Tag:
    """A tagged value: major type 6."""

    number: int
    value: Encodable


Key: TypeAlias = int | bytes | str
Value: TypeAlias = Union[int, bytes, str, bool, Tag, "list[Value]", "dict[Key, Value]", None]
"""What a decoder returns."""

Encodable: TypeAlias = Union[
    int,
    bytes,
    str,
    bool,
    Tag,
    "Sequence[Encodable]",
    "Mapping[Key, Encodable]",
    "Mapping[int, Encodable]",
    "Mapping[bytes, Encodable]",
    "Mapping[str, Encodable]",
    None,
]
"""What may be handed to `encode`, for the type checker; at run time a list, tuple or dict itself."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What a decoder will look at before it refuses. Checked before anything is allocated (C7)."""

    bytes_max: int = 16 << 20
    depth_max: int = 64
    items_max: int = 1 << 20

    def __post_init__(self) -> None:
        if not 0 <= self.depth_max <= DEPTH_MAX:
            raise ValueError(f"depth_max is 0 to {DEPTH_MAX}, got {self.depth_max}")


DEFAULT_LIMITS = Limits()
_NO_TAGS: frozenset[int] = frozenset()
_FOREIGN_TAGS: frozenset[int] = frozenset({SELF_DESCRIBED})


# --- encoding -----------------------------------------------------------------------------------------------


def encode(value: Encodable) -> bytes:
    """The deterministic encoding. Refuses with `CborRefused` whatever has none."""
    out: list[bytes] = []
    _write(value, out, DEPTH_MAX)
    return b"".join(out)


def _write(value: Encodable, out: list[bytes], depth: int) -> None:
    # Exact types: a subclass (an IntEnum, say) would decode as something else than what was encoded.
    kind = type(value)
    if isinstance(value, bytes) and kind is bytes:
        out += head(0x40, len(value)), value  # no copy of what may be a key
    elif kind in _SCALARS:
        out.append(_scalar(value))
    elif isinstance(value, (list, tuple)) and (kind is list or kind is tuple):
        _check_depth(depth)
        out.append(head(0x80, len(value)))
        for item in value:
            _write(item, out, depth - 1)
    elif isinstance(value, dict) and kind is dict:
        _check_depth(depth)
        out.append(head(0xA0, len(value)))
        # C5: map keys in bytewise order of their encodings.
        for encoded, key in sorted((_key(key), key) for key in value):
            out.append(encoded)
            _write(value[key], out, depth - 1)
    elif isinstance(value, Tag):
        _check_depth(depth)
        if type(value.number) is not int or not 0 <= value.number < 1 << 64:
            raise CborRefused("tag", expected="a tag number from 0 to 2^64-1", got=_named(value.number))
        out.append(head(0xC0, value.number))
        _write(value.value, out, depth - 1)
    else:
        raise CborRefused("type", expected="int, bytes, str, bool, None, list, tuple, dict or Tag", got=kind.__name__)


_SCALARS = frozenset({int, bytes, str, bool, type(None)})


def _scalar(value: Encodable) -> bytes:
    if value is None:
        return b"\xf6"
    if isinstance(value, bool):
        return b"\xf5" if value else b"\xf4"
    if isinstance(value, int):
        return head(0x00, value) if value >= 0 else head(0x20, -1 - value)
    if isinstance(value, bytes):
        return head(0x40, len(value)) + value
    assert isinstance(value, str)  # noqa: S101  # _SCALARS holds no other type
    try:
        text = value.encode()
    except UnicodeEncodeError:
        raise CborRefused("text", expected="text that UTF-8 can carry", got="a lone surrogate") from None
    return head(0x60, len(text)) + text


def _key(key: Key) -> bytes:
    if type(key) not in (int, bytes, str):
        raise CborRefused("key-type", expected="a map key of int, bytes or str", got=type(key).__name__)
    return _scalar(key)


def head(major: int, argument: int) -> bytes:
    """The bytes before a value: its major type, in the top three bits of `major`, and its shortest argument."""
    if argument < 24:
        return bytes((major | argument,))
    if argument < 0x100:
        return bytes((major | 24, argument))
    if argument < 0x10000:
        return bytes((major | 25,)) + argument.to_bytes(2, "big")
    if argument < 0x100000000:
        return bytes((major | 26,)) + argument.to_bytes(4, "big")
    if argument < 0x10000000000000000:
        return bytes((major | 27,)) + argument.to_bytes(8, "big")
    raise CborRefused("integer", expected="an integer from -2^64 to 2^64-1", got=f"one of {argument.bit_length()} bits")


def _check_depth(depth: int) -> None:
    if depth <= 0:
        raise CborRefused("depth", expected=f"at most {DEPTH_MAX} levels", got="a value nested over the limit")


def _named(value: object) -> str:
    return f"{type(value).__name__} out of range" if type(value) is int else type(value).__name__


# --- decoding -----------------------------------------------------------------------------------------------


def decode(data: bytes, limits: Limits = DEFAULT_LIMITS, *, tags: frozenset[int] = _NO_TAGS) -> Value:
    """The value whose deterministic encoding `data` is. Raises `CborRefused`, nothing else."""
    return _read(data, limits, tags, ordered=True)


def decode_or(
    refuse: Refuse, code: str, data: bytes, limits: Limits = DEFAULT_LIMITS, *, tags: frozenset[int] = _NO_TAGS
) -> Value:
    """As `decode`, for a room that reads: what was expected and what came is refused as its own, under `code`."""
    try:
        return decode(data, limits, tags=tags)
    except CborRefused as refusal:
        raise refuse(code, expected=refusal.expected, got=refusal.got) from None


def decode_foreign(data: bytes, limits: Limits = DEFAULT_LIMITS, *, tags: frozenset[int] = _FOREIGN_TAGS) -> Value:
    """As `decode`, but maps may come in any order (C10). Raises `CborRefused`, nothing else."""
    return _read(data, limits, tags, ordered=False)


class _Open:
    """An array, map or tag whose items are still coming."""

    __slots__ = ("items", "key", "left", "mapping", "previous", "tag")

    def __init__(
        self, left: int, *, items: list[Value] | None = None, mapping: dict[Key, Value] | None = None, tag: int = 0
    ) -> None:
        self.left = left  # items still to come; in a map, keys and values both count
        self.items = items  # of an array
        self.mapping = mapping  # of a map
        self.tag = tag
        self.key: Key = 0  # the key whose value comes next
        self.previous = b""  # the encoding of that key


def _read(data: bytes, limits: Limits, tags: frozenset[int], *, ordered: bool) -> Value:
    # One loop with its own stack: no nesting in the input can exhaust ours. It is long because a call per
    # item would double its time, and order verification decodes a thousand requests per slice.
    if type(data) is not bytes:
        raise TypeError(f"CBOR is decoded from bytes, got {type(data).__name__}")
    end = len(data)
    if end > limits.bytes_max:
        raise CborRefused("size", expected=f"at most {limits.bytes_max} bytes", got=f"{end} bytes")
    budget = limits.items_max
    depth_max = limits.depth_max
    stack: list[_Open] = []
    top: _Open | None = None
    value: Value
    pos = 0
    while True:
        start = pos
        if pos >= end:
            _truncated(pos, 1, 0)
        budget -= 1
        if budget < 0:
            raise CborRefused(
                "items", expected=f"at most {limits.items_max} items", got=f"more than {limits.items_max}", offset=start
            )
        initial = data[pos]
        pos += 1
        major = initial >> 5
        argument = initial & 0x1F
        if argument > 23:
            if major == 7:
                _refuse_simple(initial, start)
            width = _WIDTHS.get(argument)
            if width is None:
                _refuse_length(argument, start)
            size, least = width
            if end - pos < size:
                _truncated(start, size, end - pos)
            argument = int.from_bytes(data[pos : pos + size], "big")
            if argument < least:  # C3
                raise CborRefused(
                    "not-shortest", expected="the shortest form", got=f"{size} bytes for it", offset=start
                )
            pos += size

        at_key = top is not None and top.mapping is not None and not top.left & 1
        if at_key and major > 3:
            raise CborRefused("key-type", expected="a map key of int, bytes or text", got=_MAJORS[major], offset=start)

        if major == 0:
            value = argument
        elif major == 1:
            value = -1 - argument
        elif major == 2 or major == 3:
            if argument > end - pos:  # C7: before the slice
                _truncated(start, argument, end - pos)
            value = data[pos : pos + argument]
            pos += argument
            if major == 3:
                try:
                    value = value.decode()
                except UnicodeDecodeError as error:
                    _refuse_text(pos - argument + error.start)
        elif major == 7:
            if initial not in _SIMPLE:
                _refuse_simple(initial, start)
            value = _SIMPLE[initial]
        else:
            if len(stack) >= depth_max:
                raise CborRefused(
                    "depth", expected=f"at most {depth_max} levels", got=f"level {len(stack) + 1}", offset=start
                )
            if major == 6:
                if argument not in tags:
                    raise CborRefused("tag", expected=_listed(tags), got=f"tag {argument}", offset=start)
                top = _Open(1, tag=argument)
                stack.append(top)
                continue
            count = argument if major == 4 else 2 * argument
            if count > end - pos:  # C7: an item is at least one byte
                _truncated(start, count, end - pos)
            if count:
                top = _Open(count, items=[]) if major == 4 else _Open(count, mapping={})
                stack.append(top)
                continue
            value = [] if major == 4 else {}

        # `value` is complete: hand it to what holds it, and close whatever that completes.
        while top is not None:
            if top.items is not None:
                top.items.append(value)
                top.left -= 1
                if top.left:
                    break
                value = top.items
            elif top.mapping is not None:
                top.left -= 1
                if at_key:
                    _enter_key(top, value, data[start:pos], start, ordered=ordered)
                    break
                top.mapping[top.key] = value
                if top.left:
                    break
                value = top.mapping
            else:
                value = Tag(top.tag, value)
            stack.pop()
            top = stack[-1] if stack else None
        if top is None:
            break
    if pos != end:
        raise CborRefused("trailing", expected="the end", got=f"{end - pos} more bytes", offset=pos)
    return value


_WIDTHS = {24: (1, 24), 25: (2, 0x100), 26: (4, 0x10000), 27: (8, 0x100000000)}
_SIMPLE: dict[int, bool | None] = {0xF4: False, 0xF5: True, 0xF6: None}
_MAJORS = ("an integer", "an integer", "bytes", "text", "an array", "a map", "a tag", "a simple value")


def _enter_key(top: _Open, key: Value, encoded: bytes, offset: int, *, ordered: bool) -> None:
    assert top.mapping is not None and isinstance(key, (int, bytes, str))  # noqa: S101, PT018  # the caller saw to it
    if key in top.mapping:  # C6
        raise CborRefused("duplicate-key", expected="each key once", got="a key for the second time", offset=offset)
    if ordered and encoded < top.previous:  # C5
        raise CborRefused(
            "key-order", expected="keys in bytewise order", got="a key below its predecessor", offset=offset
        )
    top.key = key
    top.previous = encoded


def _truncated(offset: int, wanted: int, left: int) -> NoReturn:
    raise CborRefused("truncated", expected=f"at least {wanted} more bytes", got=f"{left}", offset=offset)


def _refuse_length(info: int, offset: int) -> NoReturn:
    if info == 31:  # C4
        raise CborRefused("indefinite", expected="a definite length", got="an indefinite length", offset=offset)
    raise CborRefused("reserved", expected="a length form of RFC 8949", got=f"form {info}", offset=offset)


def _refuse_simple(initial: int, offset: int) -> NoReturn:
    if initial in (0xF9, 0xFA, 0xFB):  # C2
        raise CborRefused("float", expected="no floating point", got="a float", offset=offset)
    if initial == 0xFF:
        raise CborRefused("indefinite", expected="a definite length", got="a break", offset=offset)
    raise CborRefused("simple", expected="false, true or null", got=f"byte {initial:#04x}", offset=offset)


def _refuse_text(offset: int) -> NoReturn:
    raise CborRefused("text", expected="valid UTF-8", got="bytes that are not UTF-8", offset=offset) from None


def _listed(tags: frozenset[int]) -> str:
    return "one of the tags " + ", ".join(map(str, sorted(tags))) if tags else "no tag"
