"""JSON documents that people vote on: strict fields, and one accepted spelling of every value.

    fields = Fields.parse(raw, "manifest", bytes_max=48 << 10)
    name = fields.text("name", 64)
    fields.done()                       # nothing was left unread
    render(document) == raw             # or it is refused: no second spelling to hide a difference in

Establishes form alone. Raises `ReleaseDocumentRefused`, nothing else.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Final, NoReturn, TypeAlias, Union, cast

from measurements.release.errors import ReleaseDocumentRefused

Document: TypeAlias = Union[str, int, "list[Document]", "dict[str, Document]", None]
"""What a document is made of: no floats, no booleans."""

DEPTH_MAX: Final = 8
INTEGER_MAX: Final = 2**63 - 1
PRINTABLE: Final = re.compile(r"[ -~]*")
_NO_BRACKETS: Final = bytes(set(range(256)) - set(b"[]{}"))
HEXADECIMAL: Final = re.compile(r"(?:[0-9a-f]{2})*")


def render(document: Document) -> bytes:
    """The one spelling: sorted names, two spaces, ASCII, a newline at the end."""
    return json.dumps(document, indent=2, sort_keys=True, ensure_ascii=True).encode() + b"\n"


class Fields:
    """An object of a document, read name by name; every name is read or refused."""

    def __init__(self, value: object, where: str) -> None:
        if not isinstance(value, dict):
            raise ReleaseDocumentRefused(where, expected="an object", got=_kind(value))
        self._left: dict[str, object] = dict(value)
        self._where: Final = where

    @classmethod
    def parse(cls, raw: bytes, where: str, *, bytes_max: int) -> Fields:
        if len(raw) > bytes_max:
            raise ReleaseDocumentRefused(f"{where}.size", expected=f"at most {bytes_max} bytes", got=len(raw))
        return cls(_json(raw, where), where)

    def done(self) -> None:
        if self._left:
            raise self._refused(min(self._left)[:64], "no such field", "one")

    def whole(self) -> dict[str, Document]:
        """All that is left of it, for a parser of its own; none of it is checked yet."""
        left, self._left = self._left, {}
        return cast("dict[str, Document]", left)

    def text(self, name: str, characters_max: int, pattern: re.Pattern[str] = PRINTABLE, *, empty: bool = False) -> str:
        value = self._take(name)
        if not isinstance(value, str) or len(value) > characters_max or not pattern.fullmatch(value):
            raise self._refused(name, f"at most {characters_max} characters as {pattern.pattern}", _kind(value))
        if not value and not empty:
            raise self._refused(name, "a text", "an empty one")
        return value

    def uint(self, name: str, maximum: int = INTEGER_MAX, minimum: int = 0) -> int:
        value = self._take(name)
        if type(value) is not int or not minimum <= value <= maximum:
            raise self._refused(name, f"a number from {minimum} to {maximum}", _kind(value))
        return value

    def digest(self, name: str, size: int = 32) -> bytes:
        return self._hexadecimal(name, self._take(name), size)

    def optional_digest(self, name: str, size: int = 32) -> bytes | None:
        value = self._take(name)
        return None if value is None else self._hexadecimal(name, value, size)

    def optional_digests(self, name: str, count: int, size: int) -> tuple[bytes | None, ...]:
        values = self._list(name, count, count)
        return tuple(None if value is None else self._hexadecimal(name, value, size) for value in values)

    def texts(self, name: str, most: int, characters_max: int, least: int = 1) -> tuple[str, ...]:
        values = self._list(name, least, most)
        for value in values:
            if not isinstance(value, str) or not 0 < len(value) <= characters_max or not PRINTABLE.fullmatch(value):
                raise self._refused(name, f"printable texts of at most {characters_max} characters", _kind(value))
        return tuple(str(value) for value in values)

    def fields(self, name: str) -> Fields:
        return Fields(self._take(name), f"{self._where}.{name}")

    def optional_fields(self, name: str) -> Fields | None:
        value = self._take(name)
        return None if value is None else Fields(value, f"{self._where}.{name}")

    def rows(self, name: str, most: int, least: int = 0) -> tuple[Fields, ...]:
        return tuple(Fields(value, f"{self._where}.{name}") for value in self._list(name, least, most))

    def table(self, name: str, most: int, pattern: re.Pattern[str]) -> Mapping[str, Fields]:
        """An object whose names are free within `pattern`, each holding an object."""
        value = self._take(name)
        if not isinstance(value, dict) or len(value) > most:
            raise self._refused(name, f"an object of at most {most} names", _kind(value))
        for key in value:
            if not pattern.fullmatch(key):
                raise self._refused(name, f"names as {pattern.pattern}", repr(key[:40]))
        return {key: Fields(each, f"{self._where}.{name}") for key, each in value.items()}

    def digests(self, name: str, most: int, pattern: re.Pattern[str]) -> Mapping[str, bytes]:
        """An object whose names are free within `pattern`, each holding a digest."""
        value = self._take(name)
        if not isinstance(value, dict) or not 0 < len(value) <= most:
            raise self._refused(name, f"1 to {most} names", _kind(value))
        for key in value:
            if not pattern.fullmatch(key):
                raise self._refused(name, f"names as {pattern.pattern}", repr(key[:40]))
        return {key: self._hexadecimal(name, value[key], 32) for key in sorted(value)}

    def _list(self, name: str, least: int, most: int) -> list[object]:
        value = self._take(name)
        if not isinstance(value, list) or not least <= len(value) <= most:
            raise self._refused(name, f"{least} to {most} entries", _kind(value))
        return value

    def _hexadecimal(self, name: str, value: object, size: int) -> bytes:
        if not isinstance(value, str) or len(value) != 2 * size or not HEXADECIMAL.fullmatch(value):
            raise self._refused(name, f"{size} bytes in lower-case hexadecimal", _kind(value))
        return bytes.fromhex(value)

    def _take(self, name: str) -> object:
        if name not in self._left:
            raise self._refused(name, "this field", "none")
        return self._left.pop(name)

    def _refused(self, name: str, expected: str, got: str) -> ReleaseDocumentRefused:
        return ReleaseDocumentRefused(f"{self._where}.{name}", expected=expected, got=got)


def refuse_other_form(raw: bytes, rendered: bytes, where: str) -> None:
    """Raises unless `raw` is the one spelling of what it says."""
    if raw != rendered:
        raise ReleaseDocumentRefused(f"{where}.form", expected="the one spelling of its value", got="another")


def _json(raw: bytes, where: str) -> object:
    def refuse(word: str) -> NoReturn:
        raise ReleaseDocumentRefused(f"{where}.json", expected="integers, texts, null, lists, objects", got=word[:32])

    def unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
        found = dict(pairs)
        if len(found) != len(pairs):
            raise ReleaseDocumentRefused(f"{where}.json", expected="each name once", got="a name twice")
        return found

    if _depth(raw) > DEPTH_MAX:     # before the recursive parser sees it
        raise ReleaseDocumentRefused(f"{where}.json", expected=f"at most {DEPTH_MAX} levels", got="more")
    try:
        value: object = json.loads(
            raw.decode("ascii"), object_pairs_hook=unique, parse_constant=refuse, parse_float=refuse)
    except ValueError as error:
        raise ReleaseDocumentRefused(f"{where}.json", expected="JSON in ASCII", got=type(error).__name__) from None
    return value


def _depth(raw: bytes) -> int:
    """How deep brackets could nest at most: those in texts count too, which only makes it stricter."""
    depth = deepest = 0
    for byte in raw.translate(None, _NO_BRACKETS):
        if byte in b"[{":
            depth += 1
            deepest = max(deepest, depth)
        elif byte in b"]}":
            depth -= 1
    return deepest


def _kind(value: object) -> str:
    match value:
        case str():
            return f"a text of {len(value)} characters"
        case list() | dict():
            return f"{len(value)} entries"
        case int():
            return "another number"
        case _:
            return type(value).__name__
