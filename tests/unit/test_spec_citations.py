"""Every numbered rule of a listed specification is cited by a test, and every cited rule exists."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SPECS = ROOT / "docs" / "spec"
ENFORCED = ("order.md", "encoding.md", "wire.md", "evidence.md", "window.md", "secrecy.md")
"""The specifications held to it. One that is not written yet is skipped; add a name here to join."""

RULE = re.compile(r"^\*\*([A-Z]{1,3}\d{1,3})\b", re.MULTILINE)
RANGE = re.compile(r"\b([A-Z]{1,3})(\d{1,3}) to \1(\d{1,3})\b")


def rules_of(text: str) -> list[str]:
    return RULE.findall(text)


def cited(text: str, spec: str) -> set[str]:
    """The rules a test cites: `order.md O7`, and further numbers after it on that line: `order.md O7, O9`."""
    found: set[str] = set()
    for line in text.splitlines():
        _, name, rest = line.partition(spec)
        if name:
            found |= set(re.findall(r"\b[A-Z]{1,3}\d{1,3}\b", rest))
            for letters, low, high in RANGE.findall(rest):
                found |= {f"{letters}{number}" for number in range(int(low), int(high) + 1)}
    return found


def all_citations(spec: str) -> set[str]:
    tests = [path for path in (ROOT / "tests").rglob("*.py") if path != Path(__file__).resolve()]
    return set().union(*(cited(path.read_text(encoding="utf-8"), spec) for path in tests))


@pytest.mark.parametrize("spec", ENFORCED)
def test_every_rule_is_cited_and_every_citation_has_its_rule(spec: str) -> None:
    path = SPECS / spec
    if not path.exists():
        pytest.skip(f"docs/spec/{spec} is not written yet")
    rules = rules_of(path.read_text(encoding="utf-8"))
    assert rules, f"{spec} has no line that starts with a rule like **O7**"
    assert len(rules) == len(set(rules)), f"{spec} numbers a rule twice"
    citations = all_citations(spec)
    assert not (missing := sorted(set(rules) - citations)), f"{spec}: no test cites {missing}"
    assert not (unknown := sorted(citations - set(rules))), f"{spec}: tests cite {unknown}, which it lacks"


def test_the_reader_of_rules_and_citations_sees_what_is_written() -> None:
    assert rules_of("**O7** A slice\ntext **O8** inside a line\n**W12 Bounds.** more") == ["O7", "W12"]
    assert cited("# order.md O7, O9 to O11: why\n# wire.md W1", "order.md") == {"O7", "O9", "O10", "O11"}
    assert cited("nothing of O7 here", "order.md") == set()
