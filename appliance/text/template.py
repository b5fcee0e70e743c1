"""A chat template: a program that came with the model, run in a room without doors and with a meter at the wall.

    Template(source).render({"messages": [...], "add_generation_prompt": True}) -> str

It is Jinja, as models ship it, in jinja2's immutable sandbox, narrowed: known filters, methods and attributes alone,
no includes, no clock, no randomness, and nothing whose text, order or identity depends on the interpreter. Every turn
of a loop, call and printed value is paid for from a budget, in proportion to what it handles, and no text, list or
nesting outgrows a bound. So a template ends, whatever it says, after work that its budget bounds and the same work on
every machine (text.md L5 to L7).
"""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, ItemsView, Iterable, Iterator, KeysView, Mapping, ValuesView
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, Final, NoReturn, cast

from jinja2 import TemplateError, Undefined, nodes
from jinja2.filters import FILTERS
from jinja2.meta import find_undeclared_variables
from jinja2.runtime import LoopContext, Macro
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.tests import TESTS
from jinja2.utils import Namespace
from jinja2.visitor import NodeTransformer

from appliance.text.errors import ModelTextRefused, PromptRefused

SOURCE_CHARACTERS_MAX: Final = 256 << 10
TEXT_CHARACTERS_MAX: Final = 4 << 20
LIST_ITEMS_MAX: Final = 64 << 10
RANGE_MAX: Final = 4096
NUMBER_MAX: Final = 1 << 64
BUDGET: Final = 1 << 20  # units: one for a step, 16 for a call, one for each 64 characters handled
CHARACTERS_A_UNIT: Final = 64
CALL: Final = 15 * CHARACTERS_A_UNIT
INDENT_MAX: Final = 8
DEPTH_MAX: Final = 64  # of lists and maps in each other
MACROS_MAX: Final = 32  # that run inside each other
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
_STEPPING_BACK: Final = frozenset({"lstrip", "rfind", "rsplit", "rstrip", "strip"})  # these may look at all for each
_FORBIDDEN_NODES: Final = (
    nodes.Import,
    nodes.FromImport,
    nodes.Include,
    nodes.Extends,
    nodes.Block,
    nodes.ScopedEvalContextModifier,
    nodes.FilterBlock,
    nodes.CallBlock,
)
_STR: Final = frozenset(
    {
        "capitalize",
        "count",
        "endswith",
        "find",
        "isalpha",
        "isalnum",
        "isdigit",
        "lower",
        "lstrip",
        "removeprefix",
        "removesuffix",
        "replace",
        "rfind",
        "rsplit",
        "rstrip",
        "split",
        "splitlines",
        "startswith",
        "strip",
        "title",
        "upper",
    }
)
_ATTRIBUTES: Final[tuple[tuple[type, frozenset[str]], ...]] = (
    (str, _STR),
    (dict, frozenset({"get", "items", "keys", "values"})),
    (
        LoopContext,
        frozenset(
            {
                "changed",
                "cycle",
                "depth",
                "depth0",
                "first",
                "index",
                "index0",
                "last",
                "length",
                "nextitem",
                "previtem",
                "revindex",
                "revindex0",
            }
        ),
    ),
)


_SCALARS: Final = (str, int, float, type(None), Undefined)
_SIZED: Final = (str, list, tuple, dict, range, KeysView, ValuesView, ItemsView)


class _Spent(TemplateError):
    """The budget or a bound is used up."""


class _Raised(TemplateError):
    """The template itself declined the conversation."""


class _Meter:
    def __init__(self) -> None:
        self._left = BUDGET
        self._macros = 0

    def pay(self, characters: int) -> None:
        self._left -= 1 + characters // CHARACTERS_A_UNIT
        if self._left < 0:
            raise _Spent("budget")

    @contextmanager
    def macro(self) -> Iterator[None]:
        """How deep macros call each other is ours to bound: the interpreter's own bound is another in each version."""
        self._macros += 1
        if self._macros > MACROS_MAX:
            raise _Spent("macros")
        yield
        self._macros -= 1


_meter: Final[ContextVar[_Meter]] = ContextVar("meter of the template that runs")


class Template:
    """A template that was read, found within the rules and compiled."""

    def __init__(self, source: str) -> None:
        """Raises `ModelTextRefused` alone."""
        if len(source) > SOURCE_CHARACTERS_MAX:
            raise ModelTextRefused(
                "template.size", expected=f"at most {SOURCE_CHARACTERS_MAX} characters", got=len(source)
            )
        environment = _Room()
        try:
            tree = environment.parse(source)
            self.variables: Final = frozenset(find_undeclared_variables(tree)) - {"loop"}
            code = environment.compile(_Wiring().visit(tree))
        except (TemplateError, RecursionError, SyntaxError, ValueError, OverflowError, MemoryError) as error:
            raise ModelTextRefused(
                "template.language", expected="a template within the rules", got=_named(error)
            ) from None
        self._template: Final = environment.template_class.from_code(environment, code, dict(environment.globals))

    def render(self, variables: Mapping[str, object]) -> str:
        """What it writes. Raises `PromptRefused` alone, which tells nothing of the conversation."""
        held = _meter.set(_Meter())
        pieces, size = [], 0
        try:
            for piece in self._template.generate(dict(variables)):
                size += len(piece)
                if size > TEXT_CHARACTERS_MAX:
                    raise _Spent("text")
                pieces.append(piece)
        except _Spent:
            raise PromptRefused(
                "budget", expected="a conversation this template can write", got="a conversation over its budget"
            ) from None
        except _Raised:
            raise PromptRefused(
                "declined", expected="a conversation this template takes", got="a conversation it declines"
            ) from None
        except (TemplateError, TypeError, ValueError, LookupError, ArithmeticError, AttributeError, RecursionError):
            # A template that meets a conversation it was not written for fails in any of these ways.
            raise PromptRefused(
                "template", expected="a conversation this template can write", got="a conversation on which it fails"
            ) from None
        finally:
            _meter.reset(held)
        return "".join(pieces)


class _Room(ImmutableSandboxedEnvironment):
    """The sandbox, narrowed and metered."""

    intercepted_binops = frozenset({"+", "-", "*", "**", "%"})

    def __init__(self) -> None:
        super().__init__(
            trim_blocks=True,
            lstrip_blocks=True,
            optimized=False,
            cache_size=0,
            extensions=["jinja2.ext.loopcontrols"],
            finalize=_printed,
        )
        self.globals = {"range": _range, "namespace": Namespace, "dict": dict, "raise_exception": _decline}
        self.filters = cast("Any", _filters())  # the stubs know Jinja's own functions alone
        self.tests = cast("Any", _tests())

    def is_safe_attribute(self, obj: object, attr: str, value: object) -> bool:  # noqa: ARG002  # Jinja's signature
        if isinstance(obj, Namespace):
            return not attr.startswith("_")
        return any(isinstance(obj, kind) and attr in names for kind, names in _ATTRIBUTES)

    def wrap_str_format(self, value: Any) -> None:
        """No `format`, sandboxed or not: a width makes text of any size."""

    def unsafe_undefined(self, obj: object, attribute: str) -> NoReturn:  # noqa: ARG002  # Jinja's signature
        raise TemplateError("an attribute out of reach")

    def getitem(self, obj: Any, argument: Any) -> Any:
        if isinstance(argument, tuple):
            raise TypeError("a key is a text or a number here")  # what a tuple holds is hashed anew at every look
        return super().getitem(obj, argument)

    def call(self, context: Any, function: Any, /, *args: Any, **kwargs: Any) -> Any:
        owner = getattr(function, "__self__", None)
        meter = _meter.get()
        meter.pay(CALL + _size(owner) + sum(_weight(each) for each in (*args, *kwargs.values())))
        if isinstance(owner, str):
            if function.__name__ == "replace":
                _check_replaced(owner, *args[:2])
            if function.__name__ in _STEPPING_BACK and args and isinstance(args[0], str):
                meter.pay(len(owner) * len(args[0]))
        if isinstance(function, Macro):
            with meter.macro():
                return super().call(context, function, *args, **kwargs)
        return _bounded(super().call(context, function, *args, **kwargs))

    def call_binop(self, context: Any, operator: str, left: Any, right: Any) -> Any:
        if operator == "+" and isinstance(left, str | list) and isinstance(right, str | list):
            _check_size(left, len(left) + len(right))
            return super().call_binop(context, operator, left, right)
        if not isinstance(left, int | float) or not isinstance(right, int | float):
            raise TypeError("arithmetic is for numbers here")  # 'x' * n and 'x' % n make text of any size
        most = NUMBER_MAX if operator in {"+", "-"} else LIST_ITEMS_MAX
        if operator == "**" or max(abs(left), abs(right)) > most:
            raise _Spent("number")
        return super().call_binop(context, operator, left, right)


_OURS: Final[list[nodes.Expr]] = []  # by its identity a filter is known as wired in, not written in the template


class _Wiring(NodeTransformer):
    """Puts the meter where Jinja has no hook: around the template's own text, its lists and maps, what loops,
    comparisons and slices handle, and in place of `~`."""

    def generic_visit(self, node: nodes.Node, *args: Any, **kwargs: Any) -> nodes.Node:
        if isinstance(node, _FORBIDDEN_NODES) or (isinstance(node, nodes.For) and node.recursive):
            raise TemplateError(f"{type(node).__name__} in the template")
        node = super().generic_visit(node, *args, **kwargs)
        match node:
            case nodes.For():
                node.iter = _filtered(node.iter, "counted")
            case nodes.TemplateData():
                return _filtered(nodes.Const(node.data, lineno=node.lineno), "own")
            case nodes.List() | nodes.Tuple(ctx="load") | nodes.Dict():
                return _filtered(node, "built")
            case nodes.Concat():
                return _filtered(nodes.List(node.nodes, lineno=node.lineno), "joined")  # read at once, never kept
            case nodes.Compare():
                node.expr = _filtered(node.expr, "weighed")
                for operand in node.ops:
                    operand.expr = _filtered(operand.expr, "weighed")
            case nodes.Getitem(arg=nodes.Slice()):
                node.node = _filtered(node.node, "sliced")
            case nodes.Filter(name=name) if name in _OURS_BY_NAME and node.args is not _OURS:
                raise TemplateError("an unknown filter")
        return node


def _filtered(node: nodes.Node, name: str) -> nodes.Filter:
    return nodes.Filter(cast("nodes.Expr", node), name, _OURS, [], None, None, lineno=node.lineno)


def _check_size(of: object, size: int) -> None:
    if size > (TEXT_CHARACTERS_MAX if isinstance(of, str) else LIST_ITEMS_MAX):
        raise _Spent("size")
    _meter.get().pay(size)


def _size(value: object) -> int:
    return len(value) if isinstance(value, _SIZED) else 0


def _walk(value: object, most: int) -> int:
    """How many values and characters `value` has, what stands in it twice counted twice: at most `most`."""
    size, waiting = 0, [(value, 0)]
    while waiting:
        each, depth = waiting.pop()
        size += 1 + _size(each)
        if size > most or depth > DEPTH_MAX:
            raise _Spent("size")
        if isinstance(each, Mapping):
            waiting += [(inner, depth + 1) for pair in each.items() for inner in pair]
        elif isinstance(each, list | tuple | KeysView | ValuesView | ItemsView):
            waiting += [(inner, depth + 1) for inner in each]
        elif not isinstance(each, (*_SCALARS, range)):
            # The text of a method or a generator is its place in memory; that of a namespace has no bound.
            raise TypeError("no text, number, list or map")
    return size


def _weight(value: object) -> int:
    """What comparing or hashing `value` may look at."""
    if isinstance(value, list | tuple | dict):
        return _walk(value, LIST_ITEMS_MAX + TEXT_CHARACTERS_MAX)
    return _size(value)


def _text(value: object) -> str:
    """As text, measured before it is made: a list may hold one long text many times."""
    if isinstance(value, str):
        return value
    _meter.get().pay(_walk(value, TEXT_CHARACTERS_MAX))
    return str(value)


def _bounded(made: Any) -> Any:
    if isinstance(made, str | list) and len(made) > (TEXT_CHARACTERS_MAX if isinstance(made, str) else LIST_ITEMS_MAX):
        raise _Spent("size")
    return made


def _built(value: object) -> object:
    """A list or map that the template writes: of a bounded size and depth, so that nothing done with it goes deep."""
    if isinstance(value, dict) and any(isinstance(key, tuple) for key in value):
        raise TypeError("a key is a text or a number here")
    pieces = value.values() if isinstance(value, dict) else cast("list[object]", value)
    if any(isinstance(each, list | tuple | dict) for each in pieces):
        _meter.get().pay(_walk(value, LIST_ITEMS_MAX + TEXT_CHARACTERS_MAX))
    return value


def _own(text: str) -> str:
    """Of the template's own text: measured when it is printed, since no constant says so twice."""
    return text


def _printed(value: object) -> object:
    text = _text(value)
    _meter.get().pay(len(text))
    return text


def _filters() -> dict[str, Callable[..., Any]]:
    known: Mapping[str, Any] = FILTERS
    return {
        **{name: _paid(known[name]) for name in _ALLOWED_FILTERS},
        **{name: _of_text(known[name]) for name in _TEXT_FILTERS},
        **{name: _paid(known[name], _sorting) for name in _SORTING_FILTERS},
        **_OURS_BY_NAME,
        "tojson": _tojson,
        "join": _join,
        "replace": _replace,
        "string": _text,
        "int": _int,
        "list": _list,
    }


def _tests() -> dict[str, Callable[..., Any]]:
    known: Mapping[str, Any] = TESTS
    return {
        **{name: _paid(test) for name, test in known.items()},
        **{name: _paid(known[name], _weights) for name in _COMPARING_TESTS},
        **{name: _of_text(known[name]) for name in ("lower", "upper")},
        "sameas": _sameas,
    }


def _sizes(*values: object) -> int:
    return sum(map(_size, values))


def _weights(*values: object) -> int:
    return sum(map(_weight, values))


def _sorting(*values: object) -> int:
    """Each item is looked at as often as the number of items has digits in base two."""
    return _weights(*values) * max(map(_size, values)).bit_length()


def _paid(function: Callable[..., object], price: Callable[..., int] = _sizes) -> Callable[..., object]:
    @functools.wraps(function)  # keeps the mark by which Jinja hands it the environment
    def working(*args: Any, **kwargs: Any) -> object:
        _meter.get().pay(price(*args, *kwargs.values()))
        made = function(*args, **kwargs)
        return _counted(made) if isinstance(made, Iterator) else _bounded(made)

    return working


def _of_text(function: Callable[..., object]) -> Callable[..., object]:
    """A filter or test of text, given text alone: it would make one of whatever it is given."""

    @functools.wraps(function)
    def working(value: object, *args: Any, **kwargs: Any) -> object:
        text = _text(value)
        _meter.get().pay(len(text) * max(1, _sizes(*args, *kwargs.values())))
        return _bounded(function(text, *args, **kwargs))

    return working


def _weighed(value: object) -> object:
    _meter.get().pay(_weight(value))
    return value


def _sliced(value: object) -> object:
    _meter.get().pay(_size(value))
    return value


def _sameas(value: object, other: object) -> bool:
    """Of true, false and none alone: which other values are one object is the interpreter's business."""
    if not (other is None or isinstance(other, bool)):
        raise TypeError("sameas is for true, false and none here")
    return value is other


def _int(value: object, default: object = 0, base: int = 10) -> object:
    """As Jinja's, of texts no longer than numbers are: how long a number an interpreter reads is a setting of it."""
    _meter.get().pay(_size(value))
    if isinstance(value, str) and len(value) > DIGITS_MAX:
        raise _Spent("number")
    known: Mapping[str, Any] = FILTERS
    return known["int"](value, default, base)


def _list(value: Any) -> list[object]:
    _meter.get().pay(_size(value))
    if _size(value) > LIST_ITEMS_MAX:
        raise _Spent("size")
    return list(_counted(value) if isinstance(value, Iterator) else value)


def _counted(items: Iterable[object]) -> Iterator[object]:
    for item in items:
        _meter.get().pay(0)
        yield item


def _joined(parts: list[object]) -> str:
    texts = [_text(part) for part in parts]
    _check_size("", sum(map(len, texts)))
    return "".join(texts)


def _join(items: Iterable[object], between: object = "") -> str:
    texts: list[str] = []
    for item in _counted(items):
        texts += [_text(between), _text(item)] if texts else [_text(item)]
        if len(texts) > LIST_ITEMS_MAX:
            raise _Spent("size")
    return _joined(list(texts))


def _replace(text: object, old: object, new: object) -> str:
    whole, before, after = _text(text), _text(old), _text(new)
    _check_replaced(whole, before, after)
    return whole.replace(before, after)


def _check_replaced(text: str, old: object = "", new: object = "") -> None:
    if isinstance(old, str) and isinstance(new, str):
        _check_size(text, len(text) + text.count(old) * max(0, len(new) - len(old)))


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
    _meter.get().pay(_walk(value, TEXT_CHARACTERS_MAX))
    text = json.dumps(value, ensure_ascii=False, indent=indent, separators=separators, sort_keys=sort_keys)
    _check_size(text, len(text))
    return text


def _range(*bounds: int) -> range:
    numbers = range(*bounds)
    if len(numbers) > RANGE_MAX:
        raise _Spent("range")
    return numbers


def _decline(reason: object = "") -> NoReturn:  # noqa: ARG001  # may quote the conversation: never shown
    raise _Raised("declined")


_OURS_BY_NAME: Final[Mapping[str, Callable[..., object]]] = {
    "counted": _counted,
    "joined": _joined,
    "weighed": _weighed,
    "sliced": _sliced,
    "own": _own,
    "built": _built,
}


def _named(error: Exception) -> str:
    """What is wrong with a template: its author's text, so it may be shown, but not much of it."""
    return f"{type(error).__name__}: {error}"[:200]
