"""An entry of the decision log, from bytes and back: the one codec of it (docs/spec/key-release.md R19).

    entry  = dCBOR [1, position, previous digest, time (ns), kind, {name: value}]
    digest = SHA-256(tag anchorhold/broker/log/entry/v1, entry)

Of what an entry says a type of `events` is made, with every member there, known, and of its type and length. Anything
else is refused under the kind it states: `log.granted`, `log.release-added`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import MISSING, dataclass, fields, is_dataclass
from enum import Enum
from functools import cache
from types import NoneType, UnionType
from typing import Annotated, Any, Final, NewType, Self, Union, cast, get_args, get_origin, get_type_hints

from attestation.decision_log.errors import LogRefused
from attestation.decision_log.events import TYPES, Event
from attestation.rcar.grant import EntryDigest
from foundation import cbor
from foundation.digests import DIGEST_BYTES, tagged_sha256
from foundation.refusal import difference, listed, outline, shape, shown
from measurements.launch.measurement import (
    REGISTER_BYTES,
    TDX_BYTES,
    LaunchMeasurement,
    SnpLaunchDigest,
    TdxRegisters,
    read_measurement,
)

VERSION: Final = 1
ENTRY_TAG: Final = "anchorhold/broker/log/entry/v1"
ENTRY_BYTES_MAX: Final = 64 * 1024
_LIMITS: Final = cbor.Limits(bytes_max=ENTRY_BYTES_MAX, depth_max=4, items_max=1024)

Value = str | bytes | int


@dataclass(frozen=True, slots=True)
class Entry:
    """One entry: its place in the log, when it was written, and what it says."""

    position: int
    previous: bytes
    time_ns: int
    event: Event

    @property
    def kind(self) -> str:
        return self.event.kind

    @property
    def details(self) -> Mapping[str, Value]:
        """What it says, by name, as it stands in the log."""
        return _details(self.event)

    def encode(self) -> bytes:
        return cbor.encode([VERSION, self.position, self.previous, self.time_ns, self.kind, dict(self.details)])

    @property
    def digest(self) -> EntryDigest:
        return EntryDigest(tagged_sha256(ENTRY_TAG, self.encode()))

    @classmethod
    def parse(cls, raw: bytes) -> Self:
        """Raises `LogRefused`, nothing else."""
        value = cbor.decode_or(LogRefused, "log.entry", raw, _LIMITS)
        match value:
            case [1, int(position), bytes(previous), int(time_ns), str(kind), dict() as details] if (
                type(position) is type(time_ns) is int and len(previous) == DIGEST_BYTES
            ):
                entry = cls(position, previous, time_ns, _event(kind, details))
            case _:
                raise LogRefused("log.entry", expected="an entry of version 1", got=outline(value))
        if entry.encode() != raw:
            raise LogRefused("log.entry", expected="its own encoding", got=difference(raw, entry.encode()))
        return entry


# -- members


@dataclass(frozen=True, slots=True)
class _Member:
    """A field of a type as the codec sees it. `kind` is `str`, `bytes`, `int`, an `Enum`, or a type with members."""

    field: str
    name: str
    kind: type
    sizes: tuple[int, ...]
    optional: bool
    made: Callable[[bytes], object] = bytes  # of bytes of one of these sizes

    @property
    def nested(self) -> bool:
        return is_dataclass(self.kind)


@cache
def _members(of: type) -> tuple[_Member, ...]:
    hints = get_type_hints(of, include_extras=True)
    return tuple(_member(field.name, hints[field.name], field.default is not MISSING) for field in fields(of))


def _member(field: str, hint: Any, optional: bool) -> _Member:
    if hint == LaunchMeasurement:
        return _Member(field, field, bytes, (REGISTER_BYTES, TDX_BYTES), optional, read_measurement)
    if get_origin(hint) in (Union, UnionType):
        [hint] = [each for each in get_args(hint) if each is not NoneType]
    name, sizes = field, ()
    if get_origin(hint) is Annotated:
        hint, more = get_args(hint)
        name, sizes = (more, ()) if isinstance(more, str) else (field, more)
    while isinstance(hint, NewType):
        hint = hint.__supertype__
    return _Member(field, name, hint, sizes, optional)


def _names(of: type) -> frozenset[str]:
    """Every name that the details of this type may have."""
    return frozenset[str]().union(*(_names(each.kind) if each.nested else {each.name} for each in _members(of)))


def _details(event: object) -> dict[str, Value]:
    found: dict[str, Value] = {}
    of: type = type(event)
    for member in _members(of):
        value = getattr(event, member.field)
        if value is None:
            continue
        if member.nested:
            found |= _details(value)
        else:
            found[member.name] = _encoded(value)
    return found


def _encoded(value: Any) -> Value:
    match value:
        case Enum():
            return cast("Value", value.value)
        case SnpLaunchDigest() | TdxRegisters():
            return value.encode()
        case _:
            return cast("Value", value)


_BY_KIND: Final = {kind: [each for each in TYPES if each.kind == kind] for kind in dict.fromkeys(t.kind for t in TYPES)}


def _event(kind: str, details: Mapping[Any, object]) -> Event:
    of_kind = _BY_KIND.get(kind)
    if of_kind is None:
        raise LogRefused("log.kind", expected=f"one of {', '.join(_BY_KIND)}", got=shown(kind))
    # Of two types of one kind the first that has a place for every member is meant.
    found = next((each for each in of_kind if details.keys() <= _names(each)), of_kind[-1])
    if unknown := details.keys() - _names(found):
        raise LogRefused(f"log.{kind}", expected=f"members {listed(_names(found))}", got=listed(unknown))
    return cast("Event", _made(found, f"log.{kind}", details))


def _made(of: type, code: str, details: Mapping[Any, object]) -> object:
    values: dict[str, object] = {}
    for member in _members(of):
        if member.nested:
            there = _names(member.kind) & details.keys()
            values[member.field] = _made(member.kind, code, details) if there or not member.optional else None
        elif member.name in details:
            values[member.field] = _read(member, code, details[member.name])
        elif not member.optional:
            raise LogRefused(code, expected=f"a member {member.name}", got=f"members {listed(details)}")
    try:
        return of(**values)
    except ValueError as reason:
        wanted = "a first block of 1 at least, and a last one not before it"
        raise LogRefused(code, expected=wanted, got=reason) from None


def _read(member: _Member, code: str, value: object) -> object:
    if issubclass(member.kind, Enum):
        found = next((each for each in member.kind if each.value == value), None)
        if found is None:
            words = " or ".join(str(each.value) for each in member.kind)
            raise LogRefused(code, expected=f"{member.name} {words}", got=shown(value))
        return found
    if type(value) is not member.kind:
        raise LogRefused(code, expected=f"{member.name} as {_WORDS[member.kind]}", got=shape(value))
    if isinstance(value, bytes) and member.sizes and len(value) not in member.sizes:
        sizes = " or ".join(map(str, member.sizes))
        raise LogRefused(code, expected=f"{member.name} of {sizes} bytes", got=f"{len(value)} bytes")
    return member.made(value) if isinstance(value, bytes) else value


_WORDS: Final = {str: "a text", bytes: "bytes", int: "a whole number"}
