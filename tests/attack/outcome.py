"""What came of an attack, and how else it may end."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of an attack, in words that go onto one line."""

    held: bool
    happened: str


def held(happened: str) -> Outcome:
    return Outcome(True, happened)


def broken(happened: str) -> Outcome:
    return Outcome(False, happened)


class NotTried(Exception):
    """This machine lacks what the attack needs; the text says what."""


class Unexpected(Exception):
    """The attack met something that it was not about: it proves nothing either way."""
