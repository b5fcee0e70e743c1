"""A chat template: a program that came with the model, run sandboxed and step-limited.

    Template(source).render({"messages": [...], "add_generation_prompt": True}) -> str

It is Jinja, as models ship it, in jinja2's immutable sandbox, narrowed: known filters, methods and attributes alone,
no includes, no clock, no randomness, and nothing whose text, order or identity depends on the interpreter. Every turn
of a loop, call and printed value is paid for from a budget, in proportion to what it handles, and no text, list or
nesting outgrows a bound. So a template ends, whatever it says, after work that its budget bounds and the same work on
every machine (text.md L5 to L7).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, NoReturn, cast

from jinja2 import TemplateError, nodes
from jinja2.meta import find_undeclared_variables
from jinja2.runtime import LoopContext, Macro
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.utils import Namespace
from jinja2.visitor import NodeTransformer

from appliance.text.errors import ModelTextRefused, PromptRefused
from appliance.text.template_filters import (
    WIRED,
    Declined,
    bounded_range,
    check_replaced,
    decline,
    filters,
    printed,
    tests,
)
from appliance.text.template_meter import (
    CHARACTERS_A_UNIT,
    LIST_ITEMS_MAX,
    METER,
    TEXT_CHARACTERS_MAX,
    Meter,
    Spent,
    bounded,
    check_size,
    pay,
    size_of,
    weight_of,
)

SOURCE_CHARACTERS_MAX: Final = 256 << 10
NUMBER_MAX: Final = 1 << 64
CALL: Final = 15 * CHARACTERS_A_UNIT
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


class Template:
    """A template that was read, found within the rules and compiled."""

    def __init__(self, source: str) -> None:
        """Raises `ModelTextRefused` alone."""
        if len(source) > SOURCE_CHARACTERS_MAX:
            raise ModelTextRefused(
                "template.size", expected=f"at most {SOURCE_CHARACTERS_MAX} characters", got=len(source)
            )
        environment = _Sandbox()
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
        held = METER.set(Meter())
        pieces, size = [], 0
        try:
            for piece in self._template.generate(dict(variables)):
                size += len(piece)
                if size > TEXT_CHARACTERS_MAX:
                    raise Spent("text")
                pieces.append(piece)
        except Spent:
            raise PromptRefused(
                "budget", expected="a conversation this template can write", got="a conversation over its budget"
            ) from None
        except Declined:
            raise PromptRefused(
                "declined", expected="a conversation this template takes", got="a conversation it declines"
            ) from None
        except (TemplateError, TypeError, ValueError, LookupError, ArithmeticError, AttributeError, RecursionError):
            # A template that meets a conversation it was not written for fails in any of these ways.
            raise PromptRefused(
                "template", expected="a conversation this template can write", got="a conversation on which it fails"
            ) from None
        finally:
            METER.reset(held)
        return "".join(pieces)


class _Sandbox(ImmutableSandboxedEnvironment):
    """The sandbox, narrowed and metered."""

    intercepted_binops = frozenset({"+", "-", "*", "**", "%"})

    def __init__(self) -> None:
        super().__init__(
            trim_blocks=True,
            lstrip_blocks=True,
            optimized=False,
            cache_size=0,
            extensions=["jinja2.ext.loopcontrols"],
            finalize=printed,
        )
        self.globals = {"range": bounded_range, "namespace": Namespace, "dict": dict, "raise_exception": decline}
        self.filters = cast("Any", filters())  # the stubs know Jinja's own functions alone
        self.tests = cast("Any", tests())

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
        pay(CALL + size_of(owner) + sum(weight_of(each) for each in (*args, *kwargs.values())))
        if isinstance(owner, str):
            if function.__name__ == "replace":
                check_replaced(owner, *args[:2])
            if function.__name__ in _STEPPING_BACK and args and isinstance(args[0], str):
                pay(len(owner) * len(args[0]))
        if isinstance(function, Macro):
            with METER.get().macro():
                return super().call(context, function, *args, **kwargs)
        return bounded(super().call(context, function, *args, **kwargs))

    def call_binop(self, context: Any, operator: str, left: Any, right: Any) -> Any:
        if operator == "+" and isinstance(left, str | list) and isinstance(right, str | list):
            check_size(left, len(left) + len(right))
            return super().call_binop(context, operator, left, right)
        if not isinstance(left, int | float) or not isinstance(right, int | float):
            raise TypeError("arithmetic is for numbers here")  # 'x' * n and 'x' % n make text of any size
        most = NUMBER_MAX if operator in {"+", "-"} else LIST_ITEMS_MAX
        if operator == "**" or max(abs(left), abs(right)) > most:
            raise Spent("number")
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
            case nodes.Filter(name=name) if name in WIRED and node.args is not _OURS:
                raise TemplateError("an unknown filter")
        return node


def _filtered(node: nodes.Node, name: str) -> nodes.Filter:
    return nodes.Filter(cast("nodes.Expr", node), name, _OURS, [], None, None, lineno=node.lineno)


def _named(error: Exception) -> str:
    """What is wrong with a template: its author's text, so it may be shown, but not much of it."""
    return f"{type(error).__name__}: {error}"[:200]
