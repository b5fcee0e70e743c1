"""The filters, tests and functions of a template, each of which pays for what it handles (text.md L5, L7)."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Final, NoReturn, cast

from jinja2 import TemplateError, Undefined
from jinja2.filters import FILTERS
from jinja2.tests import TESTS

from appliance.text.template_meter import (
    LIST_ITEMS_MAX,
    TEXT_CHARACTERS_MAX,
    Spent,
    bounded,
    check_size,
    pay,
    size_of,
    text_of,
    weight_of,
    whole_size,
)

RANGE_MAX: Final = 4096
INDENT_MAX: Final = 8
DIGITS_MAX: Final = 32  # of a text that becomes a number

_ALLOWED_FILTERS: Final = frozenset(
    {
        "count",
        "d",
        "default",
        "first",
        "items",
        "last",
        "length",
        "map",
        "reject",
        "rejectattr",
        "reverse",
        "safe",
        "select",
        "selectattr",
    }
)
_TEXT_FILTERS: Final = frozenset({"capitalize", "lower", "title", "trim", "upper"})
_SORTING_FILTERS: Final = frozenset({"dictsort", "sort", "unique"})
_COMPARING_TESTS: Final = frozenset(
    {"in", "==", "eq", "equalto", "!=", "ne", ">", "gt", "greaterthan", ">=", "ge", "<", "lt", "lessthan", "<=", "le"}
)


class Declined(TemplateError):
    """The template itself declined the conversation."""


def _built(value: object) -> object:
    """A list or map that the template writes: of a bounded size and depth, so that nothing done with it goes deep."""
    if isinstance(value, dict) and any(isinstance(key, tuple) for key in value):
        raise TypeError("a key is a text or a number here")
    pieces = value.values() if isinstance(value, dict) else cast("list[object]", value)
    if any(isinstance(each, list | tuple | dict) for each in pieces):
        pay(whole_size(value, LIST_ITEMS_MAX + TEXT_CHARACTERS_MAX))
    return value


def _own(text: str) -> str:
    """Of the template's own text: measured when it is printed, since no constant says so twice."""
    return text


def printed(value: object) -> object:
    text = text_of(value)
    pay(len(text))
    return text


def filters() -> dict[str, Callable[..., Any]]:
    known: Mapping[str, Any] = FILTERS
    return {
        **{name: _paid(known[name]) for name in _ALLOWED_FILTERS},
        **{name: _of_text(known[name]) for name in _TEXT_FILTERS},
        **{name: _paid(known[name], _sorting) for name in _SORTING_FILTERS},
        **WIRED,
        "tojson": _tojson,
        "join": _join,
        "replace": _replace,
        "string": text_of,
        "int": _int,
        "list": _list,
    }


def tests() -> dict[str, Callable[..., Any]]:
    known: Mapping[str, Any] = TESTS
    return {
        **{name: _paid(test) for name, test in known.items()},
        **{name: _paid(known[name], _weights) for name in _COMPARING_TESTS},
        **{name: _of_text(known[name]) for name in ("lower", "upper")},
        "sameas": _sameas,
    }


def _sizes(*values: object) -> int:
    return sum(map(size_of, values))


def _weights(*values: object) -> int:
    return sum(map(weight_of, values))


def _sorting(*values: object) -> int:
    """Each item is looked at as often as the number of items has digits in base two."""
    return _weights(*values) * max(map(size_of, values)).bit_length()


def _paid(function: Callable[..., object], price: Callable[..., int] = _sizes) -> Callable[..., object]:
    @functools.wraps(function)  # keeps the mark by which Jinja hands it the environment
    def working(*args: Any, **kwargs: Any) -> object:
        pay(price(*args, *kwargs.values()))
        made = function(*args, **kwargs)
        return _counted(made) if isinstance(made, Iterator) else bounded(made)

    return working


def _of_text(function: Callable[..., object]) -> Callable[..., object]:
    """A filter or test of text, given text alone: it would make one of whatever it is given."""

    @functools.wraps(function)
    def working(value: object, *args: Any, **kwargs: Any) -> object:
        text = text_of(value)
        pay(len(text) * max(1, _sizes(*args, *kwargs.values())))
        return bounded(function(text, *args, **kwargs))

    return working


def _weighed(value: object) -> object:
    pay(weight_of(value))
    return value


def _sliced(value: object) -> object:
    pay(size_of(value))
    return value


def _sameas(value: object, other: object) -> bool:
    """Of true, false and none alone: which other values are one object is the interpreter's business."""
    if not (other is None or isinstance(other, bool)):
        raise TypeError("sameas is for true, false and none here")
    return value is other


def _int(value: object, default: object = 0, base: int = 10) -> object:
    """As Jinja's, of texts no longer than numbers are: how long a number an interpreter reads is a setting of it."""
    pay(size_of(value))
    if isinstance(value, str) and len(value) > DIGITS_MAX:
        raise Spent("number")
    known: Mapping[str, Any] = FILTERS
    return known["int"](value, default, base)


def _list(value: Any) -> list[object]:
    pay(size_of(value))
    if size_of(value) > LIST_ITEMS_MAX:
        raise Spent("size")
    return list(_counted(value) if isinstance(value, Iterator) else value)


def _counted(items: Iterable[object]) -> Iterator[object]:
    for item in items:
        pay(0)
        yield item


def _joined(parts: list[object]) -> str:
    texts = [text_of(part) for part in parts]
    check_size("", sum(map(len, texts)))
    return "".join(texts)


def _join(items: Iterable[object], between: object = "") -> str:
    texts: list[str] = []
    for item in _counted(items):
        texts += [text_of(between), text_of(item)] if texts else [text_of(item)]
        if len(texts) > LIST_ITEMS_MAX:
            raise Spent("size")
    return _joined(list(texts))


def _replace(text: object, old: object, new: object) -> str:
    whole, before, after = text_of(text), text_of(old), text_of(new)
    check_replaced(whole, before, after)
    return whole.replace(before, after)


def check_replaced(text: str, old: object = "", new: object = "") -> None:
    if isinstance(old, str) and isinstance(new, str):
        check_size(text, len(text) + text.count(old) * max(0, len(new) - len(old)))


def _tojson(
    value: object,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    """As templates expect it: JSON as it is, without marks for HTML."""
    # ASCII escapes would keep a client's stand-ins (`appliance.text.veil`) from becoming what they were.
    if isinstance(value, Undefined) or ensure_ascii or (indent is not None and not 0 <= indent <= INDENT_MAX):
        raise TypeError("not for JSON")
    if separators is not None and not all(isinstance(each, str) and len(each) <= INDENT_MAX for each in separators):
        raise TypeError("not for JSON")
    pay(whole_size(value, TEXT_CHARACTERS_MAX))
    text = json.dumps(value, ensure_ascii=False, indent=indent, separators=separators, sort_keys=sort_keys)
    check_size(text, len(text))
    return text


def bounded_range(*bounds: int) -> range:
    numbers = range(*bounds)
    if len(numbers) > RANGE_MAX:
        raise Spent("range")
    return numbers


def decline(reason: object = "") -> NoReturn:  # noqa: ARG001  # may quote the conversation: never shown
    raise Declined("declined")


# Put into a template where Jinja has no hook; a template that names one itself is refused.
WIRED: Final[Mapping[str, Callable[..., object]]] = {
    "counted": _counted,
    "joined": _joined,
    "weighed": _weighed,
    "sliced": _sliced,
    "own": _own,
    "built": _built,
}
