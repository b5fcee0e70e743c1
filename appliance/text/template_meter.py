"""The cost of a template's operations, and the bounds of its texts, lists and nesting (text.md L6, L7)."""

from __future__ import annotations

from collections.abc import ItemsView, Iterator, KeysView, Mapping, ValuesView
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, Final

from jinja2 import TemplateError, Undefined

TEXT_CHARACTERS_MAX: Final = 4 << 20
LIST_ITEMS_MAX: Final = 64 << 10
BUDGET: Final = 1 << 20  # units: one for a step, 16 for a call, one for each 64 characters handled
CHARACTERS_A_UNIT: Final = 64
DEPTH_MAX: Final = 64  # of lists and maps in each other
MACROS_MAX: Final = 32  # that run inside each other

_SCALARS: Final = (str, int, float, type(None), Undefined)
_SIZED: Final = (str, list, tuple, dict, range, KeysView, ValuesView, ItemsView)


class Spent(TemplateError):
    """The budget or a bound is used up."""


class Meter:
    """The budget of one run of a template."""

    def __init__(self) -> None:
        self._left = BUDGET
        self._macros = 0

    def pay(self, characters: int) -> None:
        self._left -= 1 + characters // CHARACTERS_A_UNIT
        if self._left < 0:
            raise Spent("budget")

    @contextmanager
    def macro(self) -> Iterator[None]:
        """How deep macros call each other is ours to bound: the interpreter's own bound is another in each version."""
        self._macros += 1
        if self._macros > MACROS_MAX:
            raise Spent("macros")
        yield
        self._macros -= 1


METER: Final[ContextVar[Meter]] = ContextVar("meter of the template that runs")


def pay(characters: int) -> None:
    METER.get().pay(characters)


def check_size(of: object, size: int) -> None:
    if size > (TEXT_CHARACTERS_MAX if isinstance(of, str) else LIST_ITEMS_MAX):
        raise Spent("size")
    pay(size)


def size_of(value: object) -> int:
    return len(value) if isinstance(value, _SIZED) else 0


def whole_size(value: object, most: int) -> int:
    """How many values and characters `value` has, what stands in it twice counted twice: at most `most`."""
    size, waiting = 0, [(value, 0)]
    while waiting:
        each, depth = waiting.pop()
        size += 1 + size_of(each)
        if size > most or depth > DEPTH_MAX:
            raise Spent("size")
        if isinstance(each, Mapping):
            waiting += [(inner, depth + 1) for pair in each.items() for inner in pair]
        elif isinstance(each, list | tuple | KeysView | ValuesView | ItemsView):
            waiting += [(inner, depth + 1) for inner in each]
        elif not isinstance(each, (*_SCALARS, range)):
            # The text of a method or a generator is its place in memory; that of a namespace has no bound.
            raise TypeError("no text, number, list or map")
    return size


def weight_of(value: object) -> int:
    """What comparing or hashing `value` may look at."""
    if isinstance(value, list | tuple | dict):
        return whole_size(value, LIST_ITEMS_MAX + TEXT_CHARACTERS_MAX)
    return size_of(value)


def text_of(value: object) -> str:
    """As text, measured before it is made: a list may hold one long text many times."""
    if isinstance(value, str):
        return value
    pay(whole_size(value, TEXT_CHARACTERS_MAX))
    return str(value)


def bounded(made: Any) -> Any:
    if isinstance(made, str | list) and len(made) > (TEXT_CHARACTERS_MAX if isinstance(made, str) else LIST_ITEMS_MAX):
        raise Spent("size")
    return made
