"""The shape of every refusal: at which stage, under which code, what was expected, what came.

A room derives its own base from `Refused`, and from that one class per stage, so that a caller catches
one family and an auditor scripts on `code`. The text is for people and never carries a secret.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from enum import Enum
from itertools import pairwise
from typing import Any, ClassVar, Final, Protocol

SHOWN_CHARACTERS_MAX: Final = 80
PARTS_MAX: Final = 8
SHOWN_BYTES_MAX: Final = 64  # shown whole in hexadecimal: digests, measurements, signatures


def shown(value: object) -> str:
    """A public value as a short text in printable ASCII; bytes are in hexadecimal."""
    match value:
        case Enum():
            return value.name
        case bytes() | bytearray() | memoryview():
            if not len(value):
                return "no bytes"
            if len(value) > SHOWN_BYTES_MAX:
                return f"{len(value)} bytes that start with {bytes(value[:8]).hex()}"
            return bytes(value).hex()
        case list() | dict() | tuple() | set() | frozenset() if len(value) > SHOWN_CHARACTERS_MAX:
            return f"{len(value)} entries"
        case str():
            text = ascii(value[: SHOWN_CHARACTERS_MAX + 1])
        case int() if value.bit_length() > 256:
            return f"an integer of {value.bit_length()} bits"
        case _:
            text = ascii(value)
    return text if len(text) <= SHOWN_CHARACTERS_MAX else f"{text[: SHOWN_CHARACTERS_MAX - 3]}..."


def shape(value: object) -> str:
    """The type and size of a value whose content must not be in a message."""
    match value:
        case None:
            return "none"
        case str():
            return f"a text of {len(value)} characters"
        case bytes() | bytearray() | memoryview():
            return f"{len(value)} bytes"
        case Mapping():
            return f"a map of {len(value)} members"
        case set() | frozenset():
            return f"a set of {len(value)} members"
        case list() | tuple():
            return f"a list of {len(value)} entries"
        case _:
            return f"a value of type {type(value).__name__}"


def listed(values: Iterable[object]) -> str:
    """Public names or numbers, sorted, as one short text."""
    text = ", ".join(sorted(ascii(each)[1:-1] if isinstance(each, str) else shown(each) for each in values)) or "none"
    return text if len(text) <= SHOWN_CHARACTERS_MAX else f"{text[: SHOWN_CHARACTERS_MAX - 3]}..."


def outline(value: object) -> str:
    """The names of a public map, the parts of a short public list, or the shape of anything else."""
    if isinstance(value, Mapping):
        return f"a map of {listed(value)}"
    if isinstance(value, list | tuple) and len(value) <= PARTS_MAX:
        return f"[{', '.join(shown(each) if type(each) is int else shape(each) for each in value)}]"
    return shown(value) if type(value) is int else shape(value)


def difference(came: bytes, wanted: bytes) -> str:
    """Where bytes that came begin to differ from those that were wanted."""
    at = next((at for at, (a, b) in enumerate(zip(came, wanted, strict=False)) if a != b), min(len(came), len(wanted)))
    return f"{len(came)} bytes that differ from byte {at} on"


def disorder(values: Iterable[Any]) -> str:
    """The first of these public values that is not above the one before it."""
    for before, after in pairwise(values):
        if not before < after:
            return f"{shown(after)} twice" if before == after else f"{shown(after)} after {shown(before)}"
    return "none out of order"


class Refused(Exception):
    """Something was not as it had to be. `code` is stable; the message is for people."""

    stage: ClassVar[str] = "refused"

    def __init__(self, code: str, *, expected: object, got: object, hint: str | None = None) -> None:
        super().__init__(code, str(expected), str(got))
        self.code = code
        self.expected = str(expected)
        self.got = str(got)
        self.hint = hint

    def __str__(self) -> str:
        line = f"{self.stage}: {self.code}: expected {self.expected}, got {self.got}"
        return f"{line}\n  hint: {self.hint}" if self.hint else line


class StagedRefused(Refused):
    """One whose code begins with its stage."""

    def __init__(self, code: str, *, expected: object, got: object, hint: str | None = None) -> None:
        super().__init__(f"{self.stage}.{code}", expected=expected, got=got, hint=hint)


class Refuse(Protocol):
    """The error of the room that reads: a `Refused` class, or what makes one of this."""

    def __call__(self, code: str, /, *, expected: str, got: object) -> Exception: ...
