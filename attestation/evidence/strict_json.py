"""JSON from somebody else: bounded, no duplicate keys, no floats, typed access that refuses to guess.

Intel's collateral and dstack's event log are JSON. Establishes shape alone.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import NoReturn

from attestation.errors import FormatRefused


def parse_json(what: str, text: str | bytes, *, bytes_max: int) -> object:
    """The value of `text`. Raises `FormatRefused` for anything that is not one value."""
    if len(text) > bytes_max:
        raise FormatRefused(f"{what}.size", expected=f"at most {bytes_max} bytes", got=f"{len(text)} bytes")

    def refuse(word: str) -> NoReturn:
        raise FormatRefused(f"{what}.json", expected="integers and strings", got=word)

    def unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
        found = dict(pairs)
        if len(found) != len(pairs):
            raise FormatRefused(f"{what}.json", expected="each key once", got="a key twice")
        return found

    try:
        return json.loads(text, object_pairs_hook=unique, parse_constant=refuse, parse_float=refuse)
    except (ValueError, RecursionError) as error:
        raise FormatRefused(f"{what}.json", expected="one JSON value", got=type(error).__name__) from None


class JsonObject:
    """A JSON object whose members are asked for by name and type."""

    __slots__ = ("_members", "_what")

    def __init__(self, what: str, value: object) -> None:
        if not isinstance(value, dict):
            raise FormatRefused(f"{what}.json", expected="an object", got=type(value).__name__)
        self._what = what
        self._members: dict[str, object] = value

    def __contains__(self, name: str) -> bool:
        return name in self._members

    def _refuse(self, name: str, expected: str, got: object) -> NoReturn:
        raise FormatRefused(f"{self._what}.{name}", expected=expected, got=got)

    def text(self, name: str, *, characters_max: int = 128) -> str:
        value = self._members.get(name)
        if not isinstance(value, str) or len(value) > characters_max:
            self._refuse(name, f"text of at most {characters_max} characters", type(value).__name__)
        try:
            value.encode()
        except UnicodeEncodeError:  # a lone surrogate has no encoding, so nobody can have signed it
            self._refuse(name, "text without lone surrogates", "one")
        return value

    def integer(self, name: str, *, most: int) -> int:
        value = self._members.get(name)
        if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= most:
            self._refuse(name, f"an integer from 0 to {most}", type(value).__name__)
        return value

    def hex(self, name: str, *, size: int | None = None, bytes_max: int = 64) -> bytes:
        text = self.text(name, characters_max=2 * (size or bytes_max))
        try:
            value = bytes.fromhex(text)
        except ValueError:
            self._refuse(name, "hexadecimal digits", "other characters")
        if len(value) * 2 != len(text) or (size is not None and len(value) != size):
            self._refuse(
                name, f"{size if size is not None else 'whole'} bytes of hexadecimal", f"{len(text)} characters"
            )
        return value

    def time(self, name: str) -> datetime:
        text = self.text(name, characters_max=20)
        try:
            return datetime.strptime(text, "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC)
        except ValueError:
            self._refuse(name, "a time like 2026-01-31T12:00:00Z", "another form")

    def child(self, name: str) -> JsonObject:
        return JsonObject(f"{self._what}.{name}", self._members.get(name))

    def items(self, name: str, *, most: int) -> Sequence[object]:
        value = self._members.get(name)
        if not isinstance(value, list) or len(value) > most:
            self._refuse(name, f"a list of at most {most}", type(value).__name__)
        return value

    def children(self, name: str, *, most: int) -> tuple[JsonObject, ...]:
        return tuple(JsonObject(f"{self._what}.{name}", item) for item in self.items(name, most=most))

    def texts(self, name: str, *, most: int) -> tuple[str, ...]:
        """A list of short texts; an absent list is an empty one."""
        found = []
        for item in self.items(name, most=most) if name in self else ():
            if not isinstance(item, str) or len(item) > 64:
                self._refuse(name, "texts of at most 64 characters", type(item).__name__)
            found.append(item)
        return tuple(found)
