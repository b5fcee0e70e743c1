"""What may stand in a field of a policy document, and how a section of a policy declares its fields.

A section is a frozen dataclass whose fields are made with `ruled`: the rule it obeys, one line on what it
is for, and the reader that turns the TOML value into a typed one. A field has a value or
`{ unchecked = "why" }`: it has no default, so nothing is left out by silence.

    class TdxPolicy:
        debug: Flag | Unchecked = ruled("E60", "the host can read the guest's memory", read_flag)
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from enum import Enum
from types import MappingProxyType
from typing import Any, Final, TypeVar

from attestation.policy.claims import Unchecked
from foundation import document
from foundation.refusal import shown

T = TypeVar("T")
E = TypeVar("E", bound=Enum)

REASON_CHARACTERS_MAX: Final = 400
LIST_LENGTH_MAX: Final = 65_536


class Flag(Enum):
    """What a policy wants of one bit."""

    REQUIRED = "required"
    FORBIDDEN = "forbidden"

    def met_by(self, bit: bool) -> bool:
        return bit is (self is Flag.REQUIRED)


class Required(Enum):
    """For a check that is made or, with a reason, not made."""

    REQUIRED = "required"


@dataclass(frozen=True, slots=True)
class OneOf:
    """A value out of this list, or, with `from_references`, out of the reference values for the claim."""

    values: frozenset[bytes]
    from_references: bool = False


class Unfit(Exception):
    """A reader's complaint. `document` adds the place and turns it into a `PolicyMalformed`."""

    def __init__(self, *, expected: str, got: object) -> None:
        super().__init__(expected, got)
        self.expected = expected
        self.got = got


Reader = Callable[[object], object]


def ruled(rule: str, about: str, reader: Reader, *, may_be_unchecked: bool = True) -> Any:
    """A policy field. `about` finishes the sentence "if this were otherwise, …" for a reader of `explain`."""
    return field(metadata={"rule": rule, "about": about, "reader": reader, "may_be_unchecked": may_be_unchecked})


def believed_simulated_roots(rule: str) -> Any:
    """The field that every section has: the simulated roots it believes, by their keys' digests."""
    return ruled(
        rule,
        "a simulated root proves nothing about hardware; each must be named by its key digest",
        set_of(lambda value: hexadecimal(value, 32)),
        may_be_unchecked=False,
    )


@dataclass(frozen=True, slots=True)
class FieldRule:
    """One declared field, as `document` and `explain` see it."""

    name: str
    rule: str
    about: str
    reader: Reader
    may_be_unchecked: bool

    def read(self, value: object) -> object:
        """The typed value, or `Unchecked`; raises `Unfit`."""
        if not (isinstance(value, dict) and "unchecked" in value):
            return self.reader(value)
        if not self.may_be_unchecked:
            raise Unfit(expected="a value: this field can't be left unchecked", got="unchecked")
        return _unchecked(value)


def rules_of(section: type) -> tuple[FieldRule, ...]:
    """The fields a section declares, in the order of the class."""
    return tuple(
        FieldRule(f.name, f.metadata["rule"], f.metadata["about"], f.metadata["reader"], f.metadata["may_be_unchecked"])
        for f in fields(section)
    )


def _unchecked(value: dict[str, object]) -> Unchecked:
    reason = value.get("unchecked")
    if set(value) != {"unchecked"} or not isinstance(reason, str) or not reason.strip():
        raise Unfit(expected='{ unchecked = "the reason" } and nothing else', got=shown(value))
    if len(reason) > REASON_CHARACTERS_MAX:
        raise Unfit(expected=f"a reason of at most {REASON_CHARACTERS_MAX} characters", got=len(reason))
    return Unchecked(reason)


# Readers. Each takes what tomllib gave and returns one type, or raises `Unfit`.


def read_flag(value: object) -> Flag:
    return _member(Flag, value)


def read_required(value: object) -> Required:
    return _member(Required, value)


def _member(kind: type[E], value: object) -> E:
    for member in kind:
        if member.value == value:
            return member
    allowed = " or ".join(f'"{member.value}"' for member in kind)
    raise Unfit(expected=allowed, got=shown(value))


def read_text(value: object) -> str:
    if not isinstance(value, str) or not value.strip():
        raise Unfit(expected="a text", got=shown(value))
    return value


def integer(low: int, high: int) -> Callable[[object], int]:
    def read(value: object) -> int:
        if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
            raise Unfit(expected=f"a whole number from {low} to {high}", got=shown(value))
        return value

    return read


def one_of(*sizes: int) -> Callable[[object], OneOf]:
    """`"reference"`, or a list of hex strings whose lengths in bytes are among `sizes`."""

    def read(value: object) -> OneOf:
        if value == "reference":
            return OneOf(frozenset(), from_references=True)
        return OneOf(frozenset(_list(value, lambda item: hexadecimal(item, *sizes))))

    return read


def hexadecimal(value: object, *sizes: int) -> bytes:
    return document.hexadecimal(value, "", lambda _, *, expected, got: Unfit(expected=expected, got=got), *sizes)


def set_of(item: Callable[[object], T]) -> Callable[[object], frozenset[T]]:
    """A list without repetition, each entry read by `item`."""

    def read(value: object) -> frozenset[T]:
        return frozenset(_list(value, item))

    return read


def _list(value: object, item: Callable[[object], T]) -> list[T]:
    if not isinstance(value, list) or len(value) > LIST_LENGTH_MAX:
        raise Unfit(expected=f"a list of at most {LIST_LENGTH_MAX} entries", got=shown(value))
    entries = [item(entry) for entry in value]
    if len(set(entries)) != len(entries):
        raise Unfit(expected="a list without repetition", got=shown(value))
    return entries


def member_of(kind: type[E]) -> Callable[[object], E]:
    """One member of an enum, by its value."""

    def read(value: object) -> E:
        return _member(kind, value)

    return read


def table_of(key: Callable[[object], T], item: Callable[[object], E | object]) -> Callable[[object], object]:
    """A table whose keys and values are read by `key` and `item`."""

    def read(value: object) -> Mapping[T, object]:
        if not isinstance(value, dict) or not value:
            raise Unfit(expected="a table with at least one entry", got=shown(value))
        return MappingProxyType({key(name): item(entry) for name, entry in value.items()})

    return read
