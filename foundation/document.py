"""Documents in JSON and TOML, read strictly and once: bounded, no name twice, every member typed and sized.

    fields = Fields(json_value(raw, "manifest", ReleaseRefused, bytes_max=48 << 10), "manifest", ReleaseRefused)
    name = fields.text("name", 64)
    root = fields.digest("root")
    fields.done()                       # refuses what was left unread

Whoever reads says how to refuse: `refuse` makes the room's own error from the path of the member, what was expected and
what came. Documents are public, so an error shows what came. What a document means is for whoever reads it.
"""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from typing import Final, NoReturn, TypeVar, overload

from foundation.refusal import SHOWN_CHARACTERS_MAX, Refuse, shape, shown
from foundation.sized import DIGEST_BYTES, Digest32

FAULT_CHARACTERS_MAX: Final = 160
INTEGER_MAX: Final = 2**63 - 1
PRINTABLE: Final = re.compile(r"[ -~]*")
ANY_TEXT: Final = re.compile(r".*", re.DOTALL)
_NO_BRACKETS: Final = bytes(set(range(256)) - set(b"[]{}"))
_SURROGATE: Final = re.compile("[\ud800-\udfff]")  # it has no encoding, so nobody can have signed a text with one
LOWER_HEX: Final = re.compile(r"(?:[0-9a-f]{2})*")
ANY_HEX: Final = re.compile(r"(?:[0-9a-fA-F]{2})*")
SPACED_HEX: Final = re.compile(r"\s*(?:[0-9a-fA-F]{2}\s*)*", re.ASCII)  # as people write and paste it
T = TypeVar("T")


def json_value(
    raw: bytes | str,
    where: str,
    refuse: Refuse,
    *,
    bytes_max: int,
    called: str = "a document",
    encoding: str = "utf-8",
    floats: bool = False,
    depth_max: int | None = None,
    size: str = "size",
) -> object:
    """The one JSON value that `raw` is. Refused as `where.size` or `where.json`; `called` is for people."""
    code = f"{where}.json"

    def refuse_number(word: str) -> NoReturn:
        raise refuse(code, expected=f"integers and texts in {called}", got=shown(word))

    def unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
        found: dict[str, object] = {}
        for name, value in pairs:
            if name in found:
                raise refuse(code, expected=f"each name of {called} once", got=f"{shown(name)} twice")
            found[name] = value
        return found

    _bound(raw, f"{where}.{size}", refuse, bytes_max, called=called)
    try:
        text = raw if isinstance(raw, str) else raw.decode(encoding)
        depth = 0 if depth_max is None else _depth(text.encode())  # before the recursive parser sees it
        if depth_max is not None and depth > depth_max:
            raise refuse(code, expected=f"{called} of at most {depth_max} levels", got=f"{depth} levels")
        read_float = float if floats else refuse_number
        value: object = json.loads(text, object_pairs_hook=unique, parse_constant=refuse_number, parse_float=read_float)
    except (ValueError, RecursionError) as error:
        raise refuse(code, expected=f"{called} to be JSON in {encoding.upper()}", got=undecoded(error)) from None
    return value


def json_object(
    raw: bytes | str,
    where: str,
    refuse: Refuse,
    *,
    bytes_max: int,
    called: str = "a document",
    floats: bool = False,
    size: str = "size",
) -> dict[str, object]:
    """The same, of a value that is an object."""
    value = json_value(raw, where, refuse, bytes_max=bytes_max, called=called, floats=floats, size=size)
    if not isinstance(value, dict):
        raise refuse(f"{where}.json", expected=f"{called} to be a JSON object", got=shown(value))
    return value


def toml_table(
    raw: bytes, where: str, refuse: Refuse, *, bytes_max: int, called: str = "a document"
) -> dict[str, object]:
    """The table that a TOML document is. Refused as `where.size` or `where.toml`; `where` may be empty."""
    _bound(raw, f"{where}.size".removeprefix("."), refuse, bytes_max, called=called)
    try:
        return tomllib.loads(raw.decode())
    except (ValueError, RecursionError) as error:
        code = f"{where}.toml".removeprefix(".")
        raise refuse(code, expected=f"{called} in TOML and UTF-8", got=undecoded(error)) from None


def hexadecimal(value: object, code: str, refuse: Refuse, *sizes: int, form: re.Pattern[str] = LOWER_HEX) -> bytes:
    """The bytes that a text spells, two digits each; of one of `sizes`, if any are named."""
    case = "lower-case " if form is LOWER_HEX else ""
    expected = f"{' or '.join(map(str, sizes))} bytes in {case}hexadecimal".removeprefix(" ")
    if not isinstance(value, str) or not form.fullmatch(value):
        raise refuse(code, expected=expected, got=shown(value))
    raw = bytes.fromhex(value)
    if sizes and len(raw) not in sizes:
        raise refuse(code, expected=expected, got=f"{len(raw)} bytes")
    return raw


def json_fields(raw: bytes | str, where: str, refuse: Refuse, *, bytes_max: int, called: str = "a document") -> Fields:
    """Of somebody else's JSON: its texts may be any, and members that nobody asks for may be there."""
    return Fields(json_value(raw, where, refuse, bytes_max=bytes_max, called=called), where, refuse, ANY_TEXT)


class Fields:
    """One object of a document, read member by member. `where` is its path; `texts` what a text may be unless told."""

    def __init__(self, value: object, where: str, refuse: Refuse, texts: re.Pattern[str] = PRINTABLE) -> None:
        if not isinstance(value, dict):
            raise refuse(where, expected="an object", got=shown(value))
        self._left: dict[str, object] = dict(value)
        self.where: Final = where
        self._refuse: Final = refuse
        self._texts: Final = texts

    def __contains__(self, name: str) -> bool:
        return name in self._left

    def __iter__(self) -> Iterator[str]:
        """The names that were not read yet."""
        return iter(tuple(self._left))

    def only(self, *names: str, code: str = "") -> None:
        """Refuses another set of members than this."""
        if self._left.keys() != set(names):
            # A map out of CBOR has keys that are no text.
            differing = sorted(map(str, self._left.keys() ^ set(names)))
            raise self._refuse(
                code or self.where, expected=", ".join(names), got=f"missing or unknown: {shown(', '.join(differing))}"
            )

    def done(self) -> None:
        if self._left:
            name = min(self._left)
            raise self.refused(name[:64], "no such field", shape(self._left[name]))

    def take(self, name: str) -> object:
        if name not in self._left:
            raise self.refused(name, "this field", "none")
        return self._left.pop(name)

    def optional(self, name: str, read: Callable[[str], T]) -> T | None:
        """What `read` makes of a member that may be absent."""
        return read(name) if name in self._left else None

    def text(
        self, name: str, characters_max: int, pattern: re.Pattern[str] | None = None, *, empty: bool = False
    ) -> str:
        return self._text(name, self.take(name), characters_max, pattern, empty=empty)

    def uint(self, name: str, maximum: int = INTEGER_MAX, minimum: int = 0) -> int:
        return self._uint(name, self.take(name), maximum, minimum)

    def optional_uint(self, name: str, maximum: int = INTEGER_MAX, minimum: int = 0) -> int | None:
        """None where the member is null."""
        value = self.take(name)
        return None if value is None else self._uint(name, value, maximum, minimum)

    def uints(self, name: str, most: int, maximum: int = INTEGER_MAX) -> tuple[int, ...]:
        return tuple([self._uint(name, value, maximum, 0) for value in self.items(name, most)])

    def flag(self, name: str) -> bool:
        value = self.take(name)
        if not isinstance(value, bool):
            raise self.refused(name, "true or false", shown(value))
        return value

    def time(self, name: str) -> datetime:
        value = self.take(name)
        try:
            return datetime.strptime(str(value), "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC)
        except ValueError:
            raise self.refused(name, "a time like 2026-01-31T12:00:00Z", shown(value)) from None

    @overload
    def digest(self, name: str) -> Digest32: ...
    @overload
    def digest(self, name: str, size: int, form: re.Pattern[str] = LOWER_HEX) -> bytes: ...
    def digest(self, name: str, size: int = 32, form: re.Pattern[str] = LOWER_HEX) -> bytes:
        """So many bytes in hexadecimal."""
        return hexadecimal(self.take(name), f"{self.where}.{name}", self._refuse, size, form=form)

    def blob(self, name: str, bytes_max: int) -> bytes:
        """At most so many bytes in hexadecimal of either case."""
        value = hexadecimal(self.take(name), f"{self.where}.{name}", self._refuse, form=ANY_HEX)
        if len(value) > bytes_max:
            raise self.refused(name, f"at most {bytes_max} bytes", f"{len(value)} bytes")
        return value

    def optional_digest(self, name: str) -> Digest32 | None:
        """None where the member is null."""
        value = self._digest_or_null(name, self.take(name), DIGEST_BYTES)
        return None if value is None else Digest32(value)

    def optional_digests(self, name: str, count: int, size: int) -> tuple[bytes | None, ...]:
        return tuple(self._digest_or_null(name, value, size) for value in self.items(name, count, count))

    def items(self, name: str, most: int, least: int = 0) -> list[object]:
        value = self.take(name)
        if not isinstance(value, list) or not least <= len(value) <= most:
            raise self.refused(name, f"a list of {least} to {most} entries", shown(value))
        return value

    def texts(self, name: str, most: int, characters_max: int, least: int = 1) -> tuple[str, ...]:
        return tuple(self._text(name, value, characters_max, None) for value in self.items(name, most, least))

    def fields(self, name: str) -> Fields:
        return self._child(name, self.take(name))

    def optional_fields(self, name: str) -> Fields | None:
        """None where the member is null."""
        value = self.take(name)
        return None if value is None else self._child(name, value)

    def rows(self, name: str, most: int, least: int = 0) -> tuple[Fields, ...]:
        return tuple(self._child(name, value) for value in self.items(name, most, least))

    def named(self, name: str, most: int, pattern: re.Pattern[str], least: int = 0) -> Mapping[str, object]:
        """An object whose names are free within `pattern`."""
        value = self.take(name)
        if not isinstance(value, dict) or not least <= len(value) <= most:
            raise self.refused(name, f"an object of {least} to {most} names", shown(value))
        for key in value:
            if not isinstance(key, str) or not pattern.fullmatch(key):
                raise self.refused(name, f"names as {pattern.pattern}", shown(key))
        return value

    def table(self, name: str, most: int, pattern: re.Pattern[str]) -> Mapping[str, Fields]:
        """An object whose names are free within `pattern`, each holding an object."""
        return {key: self._child(name, value) for key, value in self.named(name, most, pattern).items()}

    def digests(self, name: str, most: int, pattern: re.Pattern[str]) -> Mapping[str, bytes]:
        """An object whose names are free within `pattern`, each holding 32 bytes in hexadecimal."""
        code, named = f"{self.where}.{name}", self.named(name, most, pattern, 1)
        return {key: hexadecimal(named[key], code, self._refuse, 32) for key in sorted(named)}

    def refused(self, name: str, expected: str, got: object) -> Exception:
        """The room's error about a member."""
        return self._refuse(f"{self.where}.{name}", expected=expected, got=got)

    def _child(self, name: str, value: object) -> Fields:
        return Fields(value, f"{self.where}.{name}", self._refuse, self._texts)

    def _digest_or_null(self, name: str, value: object, size: int) -> bytes | None:
        return None if value is None else hexadecimal(value, f"{self.where}.{name}", self._refuse, size)

    def _uint(self, name: str, value: object, maximum: int, minimum: int) -> int:
        if type(value) is not int or not minimum <= value <= maximum:
            raise self.refused(name, f"a whole number from {minimum} to {maximum}", shown(value))
        return value

    def _text(
        self, name: str, value: object, characters_max: int, pattern: re.Pattern[str] | None, *, empty: bool = False
    ) -> str:
        of = pattern or self._texts
        if (
            not isinstance(value, str)
            or len(value) > characters_max
            or not of.fullmatch(value)
            or _SURROGATE.search(value)
        ):
            form = "" if of is ANY_TEXT else f" as {of.pattern}"
            raise self.refused(name, f"a text of at most {characters_max} characters{form}", shown(value))
        if not value and not empty:
            raise self.refused(name, "a text", "no characters")
        return value


def _bound(raw: bytes | str, code: str, refuse: Refuse, bytes_max: int, *, called: str) -> None:
    if len(raw) > bytes_max:
        raise refuse(code, expected=f"{called} of at most {bytes_max} bytes", got=f"{len(raw)} bytes")


def undecoded(error: Exception) -> str:
    """Why bytes or a text are no document, in words, without the name of an exception."""
    match error:
        case RecursionError():
            return "too many levels"
        case UnicodeDecodeError(start=at, encoding=encoding):
            return f"a byte that is not {encoding.upper()}, at {at}"
        case json.JSONDecodeError(msg=text, lineno=line, colno=column):
            return f"text with a fault: {text[:1].lower()}{text[1:]} (at line {line}, column {column})"
        case tomllib.TOMLDecodeError():
            text = str(error)
            return f"text with a fault: {text[:1].lower()}{text[1:]}"[:FAULT_CHARACTERS_MAX]
        case _:
            return str(error)[:SHOWN_CHARACTERS_MAX]


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
