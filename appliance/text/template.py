"""A chat template: a program that came with the model, run in a room without doors and with a meter at the wall.

    Template(source).render({"messages": [...], "add_generation_prompt": True}) -> str

It is Jinja, as models ship it, in jinja2's immutable sandbox, narrowed: known filters, methods and attributes alone,
no includes, no clock, no randomness. Every turn of a loop, call and printed value is paid for from a budget, in
proportion to the text it handles, and no text or list outgrows a bound. So a template ends, whatever it says, after
work that its budget bounds and the same work on every machine (text.md L5 to L7).
"""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, ItemsView, Iterable, Iterator, KeysView, Mapping, ValuesView
from contextvars import ContextVar
from typing import Any, Final, NoReturn, cast

from jinja2 import TemplateError, Undefined, nodes
from jinja2.filters import FILTERS
from jinja2.meta import find_undeclared_variables
from jinja2.runtime import LoopContext
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.utils import Namespace
from jinja2.visitor import NodeTransformer

from appliance.text.errors import ModelTextRefused, PromptRefused

SOURCE_CHARACTERS_MAX: Final = 256 << 10
TEXT_CHARACTERS_MAX: Final = 4 << 20
LIST_ITEMS_MAX: Final = 64 << 10
RANGE_MAX: Final = 4096
NUMBER_MAX: Final = 1 << 64
BUDGET: Final = 1 << 20             # units: one for a step, 16 for a call, one for each 64 characters handled
CHARACTERS_A_UNIT: Final = 64
CALL: Final = 15 * CHARACTERS_A_UNIT
INDENT_MAX: Final = 8

_ALLOWED_FILTERS: Final = frozenset({
    "capitalize", "count", "d", "default", "dictsort", "first", "int", "items", "last", "length", "list", "lower",
    "map", "reject", "rejectattr", "reverse", "safe", "select", "selectattr", "sort", "title", "trim",
    "unique", "upper",
})
_FORBIDDEN_NODES: Final = (
    nodes.Import, nodes.FromImport, nodes.Include, nodes.Extends, nodes.Block, nodes.ScopedEvalContextModifier,
    nodes.FilterBlock, nodes.CallBlock,
)
_STR: Final = frozenset({
    "capitalize", "count", "endswith", "find", "isalpha", "isalnum", "isdigit", "lower", "lstrip", "removeprefix",
    "removesuffix", "replace", "rfind", "rsplit", "rstrip", "split", "splitlines", "startswith", "strip", "title",
    "upper",
})
_ATTRIBUTES: Final[tuple[tuple[type, frozenset[str]], ...]] = (
    (str, _STR),
    (dict, frozenset({"get", "items", "keys", "values"})),
    (LoopContext, frozenset({
        "changed", "cycle", "depth", "depth0", "first", "index", "index0", "last", "length", "nextitem", "previtem",
        "revindex", "revindex0",
    })),
)


_SIZED: Final = (str, list, tuple, dict, range, KeysView, ValuesView, ItemsView)


class _Spent(TemplateError):
    """The budget or a bound is used up."""


class _Raised(TemplateError):
    """The template itself declined the conversation."""


class _Meter:
    def __init__(self, stride: int) -> None:
        self._left = BUDGET
        self._stride = stride       # what a step may print of the template's own text

    def pay(self, characters: int) -> None:
        self._left -= self._stride + characters // CHARACTERS_A_UNIT
        if self._left < 0:
            raise _Spent("budget")


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
        except (TemplateError, RecursionError, SyntaxError, ValueError, OverflowError) as error:
            raise ModelTextRefused(
                "template.language", expected="a template within the rules", got=_named(error)
            ) from None
        self._stride: Final = 1 + len(source) // CHARACTERS_A_UNIT // 16
        self._template: Final = environment.template_class.from_code(environment, code, dict(environment.globals))

    def render(self, variables: Mapping[str, object]) -> str:
        """What it writes. Raises `PromptRefused` alone, which tells nothing of the conversation."""
        held = _meter.set(_Meter(self._stride))
        pieces, size = [], 0
        try:
            for piece in self._template.generate(dict(variables)):
                size += len(piece)
                if size > TEXT_CHARACTERS_MAX:
                    raise _Spent("text")
                pieces.append(piece)
        except _Spent:
            raise PromptRefused("budget", expected="a conversation this template can write", got="more") from None
        except _Raised:
            raise PromptRefused("declined", expected="a conversation this template takes", got="another") from None
        except (TemplateError, TypeError, ValueError, LookupError, ArithmeticError, AttributeError, RecursionError):
            # A template that meets a conversation it was not written for fails in any of these ways.
            raise PromptRefused("template", expected="a conversation this template can write", got="another") from None
        finally:
            _meter.reset(held)
        return "".join(pieces)


class _Room(ImmutableSandboxedEnvironment):
    """The sandbox, narrowed and metered."""

    intercepted_binops = frozenset({"+", "-", "*", "**", "%"})

    def __init__(self) -> None:
        super().__init__(
            trim_blocks=True, lstrip_blocks=True, optimized=False, cache_size=0, extensions=["jinja2.ext.loopcontrols"],
            finalize=_printed,
        )
        self.globals = {"range": _range, "namespace": Namespace, "dict": dict, "raise_exception": _decline}
        self.filters = {name: _paid(FILTERS[name]) for name in _ALLOWED_FILTERS} | {
            "tojson": _tojson, "join": _join, "replace": _replace, "counted": _counted, "joined": _joined,
            "weighed": _weighed, "string": _text,
        }

    def is_safe_attribute(self, obj: object, attr: str, value: object) -> bool:  # noqa: ARG002  # Jinja's signature
        if isinstance(obj, Namespace):
            return not attr.startswith("_")
        return any(isinstance(obj, kind) and attr in names for kind, names in _ATTRIBUTES)

    def wrap_str_format(self, value: Any) -> None:
        """No `format`, sandboxed or not: a width makes text of any size."""

    def unsafe_undefined(self, obj: object, attribute: str) -> NoReturn:  # noqa: ARG002  # Jinja's signature
        raise TemplateError("an attribute out of reach")

    def call(self, context: Any, function: Any, /, *args: Any, **kwargs: Any) -> Any:
        owner = getattr(function, "__self__", None)
        _meter.get().pay(CALL + sum(len(each) for each in (owner, *args) if isinstance(each, str)))
        if isinstance(owner, str) and function.__name__ == "replace":
            _check_replaced(owner, *args[:2])
        return super().call(context, function, *args, **kwargs)

    def call_binop(self, context: Any, operator: str, left: Any, right: Any) -> Any:
        if operator == "+" and isinstance(left, str | list | tuple) and isinstance(right, str | list | tuple):
            _check_size(left, len(left) + len(right))
            return super().call_binop(context, operator, left, right)
        if not isinstance(left, int | float) or not isinstance(right, int | float):
            raise TypeError("arithmetic is for numbers here")   # 'x' * n and 'x' % n make text of any size
        most = NUMBER_MAX if operator in {"+", "-"} else LIST_ITEMS_MAX
        if operator == "**" or max(abs(left), abs(right)) > most:
            raise _Spent("number")
        return super().call_binop(context, operator, left, right)


_OURS: Final[list[nodes.Expr]] = []     # by its identity a filter is known as wired in, not written in the template


class _Wiring(NodeTransformer):
    """Puts the meter where Jinja has no hook: around what loops, comparisons and slices handle, in place of `~`."""

    def generic_visit(self, node: nodes.Node, *args: Any, **kwargs: Any) -> nodes.Node:
        if isinstance(node, _FORBIDDEN_NODES) or (isinstance(node, nodes.For) and node.recursive):
            raise TemplateError(f"{type(node).__name__} in the template")
        node = super().generic_visit(node, *args, **kwargs)
        match node:
            case nodes.For():
                node.iter = _filtered(node.iter, "counted")
            case nodes.Concat():
                return _filtered(nodes.List(node.nodes, lineno=node.lineno), "joined")
            case nodes.Compare():
                node.expr = _filtered(node.expr, "weighed")
                for operand in node.ops:
                    operand.expr = _filtered(operand.expr, "weighed")
            case nodes.Test():
                node.node = _filtered(node.node, "weighed")
                node.args = [_filtered(argument, "weighed") for argument in node.args]
            case nodes.Getitem(arg=nodes.Slice()):
                node.node = _filtered(node.node, "weighed")
            case nodes.Filter(name="counted" | "joined" | "weighed") if node.args is not _OURS:
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


def _text(value: object) -> str:
    """As text, measured before it is made: a list may hold one long text many times."""
    if isinstance(value, str):
        return value
    left, waiting = TEXT_CHARACTERS_MAX, [value]
    while waiting:
        each = waiting.pop()
        left -= 1 + _size(each)
        if left < 0:
            raise _Spent("size")
        if isinstance(each, Mapping):
            waiting += [*each.keys(), *each.values()]
        elif isinstance(each, list | tuple):
            waiting += each
    _meter.get().pay(TEXT_CHARACTERS_MAX - left)
    return str(value)


def _printed(value: object) -> object:
    text = _text(value)
    _meter.get().pay(len(text))
    return text


def _paid(function: Callable[..., object]) -> Callable[..., object]:
    @functools.wraps(function)      # keeps the mark by which Jinja hands it the environment
    def filtering(*args: Any, **kwargs: Any) -> object:
        _meter.get().pay(sum(map(_size, args)))
        made = function(*args, **kwargs)
        return _counted(made) if isinstance(made, Iterator) else made

    return filtering


def _weighed(value: object) -> object:
    _meter.get().pay(_size(value))
    return value


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


def _tojson(value: object, ensure_ascii: bool = False, indent: int | None = None,
            separators: tuple[str, str] | None = None, sort_keys: bool = False) -> str:
    """As templates expect it: JSON as it is, without marks for HTML."""
    # ASCII escapes would keep a client's stand-ins (`appliance.text.veil`) from becoming what they were.
    if isinstance(value, Undefined) or ensure_ascii or (indent is not None and not 0 <= indent <= INDENT_MAX):
        raise TypeError("not for JSON")
    _text(value)
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


def _named(error: Exception) -> str:
    """What is wrong with a template: its author's text, so it may be shown, but not much of it."""
    return f"{type(error).__name__}: {error}"[:200]
