"""A function of the product has at most four parameters by position: the others are named where it is called."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from typing import Final

import pytest

from tests.rooms import ROOMS, ROOT

BY_POSITION_MAX: Final = 4

MORE: Final = {
    "appliance/text/template_filters.py _tojson": "templates of models call it, as Jinja2 defines the filter",
    "attestation/auditor/log_checks.py seen": "the table of checks calls it with what it asks for",
    "devnet/replica/system_api.py call_new": "WebAssembly calls it",
    "devnet/replica/system_api.py env_var_value_copy": "WebAssembly calls it",
    "image_build/inside/calls.py mount": "the system call mount(2)",
}


def longer(tree: ast.AST) -> Iterator[str]:
    """The functions in it that take more by position; the value a method is called on does not count."""
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            names = [each.arg for each in (*node.args.posonlyargs, *node.args.args)]
            if len(names) - (names[:1] in (["self"], ["cls"])) > BY_POSITION_MAX:
                yield node.name


def test_at_most_four_parameters_by_position() -> None:
    found = {
        f"{path.relative_to(ROOT).as_posix()} {name}"
        for room in ROOMS
        for path in sorted((ROOT / room).rglob("*.py"))
        for name in longer(ast.parse(path.read_text()))
    }
    assert found == set(MORE)


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("def f(a, b, c, d): ...", []),
        ("def f(a, b, c, d, e): ...", ["f"]),
        ("def f(a, b, /, c, d, e): ...", ["f"]),
        ("async def f(a, b, c, d, *, e, g): ...", []),
        ("class C:\n def f(self, a, b, c, d): ...", []),
        ("class C:\n def f(cls, a, b, c, d, e=1): ...", ["f"]),
    ],
)
def test_what_counts(text: str, names: list[str]) -> None:
    assert list(longer(ast.parse(text))) == names
