"""A refusal says what came: a count, a name, a digest, a type. A literal such as "another" says nothing.

The few that stay are listed here with their reason: what came is secret, or there is no value to show.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from typing import Final

import pytest

from tests.rooms import ROOMS, ROOT

KEPT_MAX: Final = 29
VAGUE: Final = re.compile(
    r"\b(another('s)?|others?|otherwise|else|some(thing)?|more|less|fewer|longer|shorter|deeper|higher|lower"
    r"|neither|either|both|again|beyond|outside|different)\b|^ones?\b|^two$"
)
REFUSING: Final = re.compile(r"_?(refus|malformed|unfit|unchecked|want|declined)", re.IGNORECASE)

# (file, literal): why no value is shown.
KEPT: Final = {
    ("measurements/pack/keys.py", "another key"): "a key, and whatever is computed from it, is secret",
    (
        "attestation/consensus/chat.py",
        "another",
    ): "the refusal is one for every request, so that it tells nothing of it",
    ("attestation/sealed/request.py", "a request that another caller sealed"): "the caller stands in sealed plaintext",
    (
        "anchorhold/replay/replayer.py",
        "the bundle shows no request to compute again",
    ): "the reason of a finding in a sentence, no value that came",
}


def literals(value: ast.expr) -> Iterator[str]:
    """The texts that an expression may be, as far as they are written there. A formatted text shows a value."""
    match value:
        case ast.IfExp(body=body, orelse=orelse):
            yield from literals(body)
            yield from literals(orelse)
        case ast.BoolOp(values=values):
            for each in values:
                yield from literals(each)
        case ast.Constant(value=str(text)):
            yield text


def came(call: ast.Call) -> Iterator[ast.expr]:
    """What a call states as what came: the keyword `got`, or the last argument of a room's own refusal."""
    yield from (keyword.value for keyword in call.keywords if keyword.arg == "got")
    name = call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")
    if REFUSING.match(name) and len(call.args) > 1:
        yield call.args[-1]


def vague(source: str) -> list[str]:
    calls = [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Call)]
    return [text for call in calls for value in came(call) for text in literals(value) if VAGUE.search(text)]


def test_refusals_say_what_came() -> None:
    found = {
        (path.relative_to(ROOT).as_posix(), text)
        for room in ROOMS
        for path in (ROOT / room).rglob("*.py")
        for text in vague(path.read_text(encoding="utf-8"))
    }
    assert sorted(found - KEPT.keys()) == [], "say the value, its size or its type"
    assert sorted(KEPT.keys() - found) == [], "gone from the code: take it from this list"
    assert len(KEPT) <= KEPT_MAX
    assert all(KEPT.values())


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ('raise Refused("a", expected="b", got="another")', ["another"]),
        ('raise Refused("a", expected="b", got="none" if c else "others")', ["others"]),
        ('raise self._refused("a", "a number", "something else")', ["something else"]),
        ('raise Refused("a", expected="b", got=f"{n} bytes")', []),
        ('raise Refused("a", expected="another", got=len(b))', []),
    ],
)
def test_vague_literals_are_found(source: str, found: list[str]) -> None:
    assert vague(source) == found
