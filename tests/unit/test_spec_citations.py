"""Every numbered rule of a listed specification is cited by a test, and every cited rule exists."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SPECS = ROOT / "docs" / "spec"
ENFORCED = tuple(sorted(path.name for path in SPECS.glob("*.md")))
"""Every specification. Several may share a letter, each with numbers of its own: a citation is unknown only if none of
them has it."""

RULE = re.compile(r"^\*\*([A-Z]{1,3}\d{1,3})\b", re.MULTILINE)
RANGE = re.compile(r"\b([A-Z]{1,3})(\d{1,3}) to \1(\d{1,3})\b")


def rules_of(text: str) -> list[str]:
    return RULE.findall(text)


def cited(text: str, spec: str, letters: str) -> set[str]:
    """The rules of `spec` that a test file cites, if it names the specification: `order.md O7`, then `O9 to O11`."""
    if spec not in text:
        return set()
    found = set(re.findall(rf"\b{letters}\d{{1,3}}\b", text))
    for prefix, low, high in RANGE.findall(text):
        if prefix == letters:
            found |= {f"{letters}{number}" for number in range(int(low), int(high) + 1)}
    return found


def all_citations(spec: str, letters: str) -> set[str]:
    tests = [path for path in (ROOT / "tests").rglob("*.py") if path != Path(__file__).resolve()]
    return set().union(*(cited(path.read_text(encoding="utf-8"), spec, letters) for path in tests))


def rules_with(letter: str) -> set[str]:
    texts = [path.read_text(encoding="utf-8") for path in SPECS.glob("*.md")]
    return {rule for text in texts for rule in rules_of(text) if rule.rstrip("0123456789") == letter}


@pytest.mark.parametrize("spec", ENFORCED)
def test_every_rule_is_cited_and_every_citation_has_its_rule(spec: str) -> None:
    rules = rules_of((SPECS / spec).read_text(encoding="utf-8"))
    assert rules, f"{spec} has no line that starts with a rule like **O7**"
    assert len(rules) == len(set(rules)), f"{spec} numbers a rule twice"
    letters = {rule.rstrip("0123456789") for rule in rules}
    assert len(letters) == 1, f"{spec}: expected one letter for all rules, got {sorted(letters)}"
    letter = letters.pop()
    citations = all_citations(spec, letter)
    assert not (missing := sorted(set(rules) - citations)), f"{spec}: no test cites {missing}"
    assert not (unknown := sorted(citations - rules_with(letter))), f"{spec}: tests cite {unknown}, which nothing has"


def test_the_reader_of_rules_and_citations_sees_what_is_written() -> None:
    assert rules_of("**O7** A slice\ntext **O8** inside a line\n**W12 Title.** more") == ["O7", "W12"]
    assert cited("# order.md O7, O9 to O11: why\n# wire.md W1", "order.md", "O") == {"O7", "O9", "O10", "O11"}
    assert cited("nothing of O7 where no specification is named", "order.md", "O") == set()
