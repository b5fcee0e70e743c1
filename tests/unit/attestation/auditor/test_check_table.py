"""audit.md U4: the checks are a table. It agrees with the specification, and what is not reached follows from it."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from attestation.auditor.checks import CHECKS, STAGES
from attestation.auditor.errors import AuditRefused
from attestation.auditor.findings import FindingStanding, Stage
from attestation.auditor.rows import GIVEN, Check, Held, Scope, judge_all
from tests.little_audit import terms
from tests.unit.attestation.auditor.audited_bundles import GOOD

SPECS = Path(__file__).resolve().parents[4] / "docs" / "spec"
AUDIT = (SPECS / "audit.md").read_text(encoding="utf-8")
BY_CODE = {row.code: row for row in CHECKS}


def rules_of(row: Check) -> list[tuple[str, str]]:
    """(specification, rule) of all that a row names: `order.md O14 to O18` are five."""
    spec, _, names = row.rule.partition(" ")
    found: list[str] = []
    for part in names.split(", "):
        letter, low, high = re.fullmatch(r"([A-Z])(\d+)(?: to \1(\d+))?", part).groups()  # type: ignore[union-attr]
        found += [f"{letter}{number}" for number in range(int(low), int(high or low) + 1)]
    return [(spec, rule) for rule in found]


def unsound(rows: Sequence[Check]) -> list[str]:
    """What is wrong with what these rows look at: it may be rows above them alone, so that there is no circle."""
    wrong, above = [], set[str]()
    for row in rows:
        if row.code in above:
            wrong.append(f"{row.code} is there twice")
        wrong += [f"{row.code} looks at {name}, which is not above it" for name in row.looks_at if name not in above]
        above.add(row.code)
    return wrong


def test_every_row_looks_at_rows_above_it() -> None:
    assert unsound(CHECKS) == []
    assert {row.stage for row in CHECKS} == set(STAGES) == set(Stage) - {Stage.REPLAY}


def row(code: str, *needs: str, scope: Scope = Scope.BUNDLE) -> Check:
    return Check(code, "audit.md U4", code, lambda *_: Held(code), needs=needs, scope=scope)


@pytest.mark.parametrize(
    ("rows", "wrong"),
    [
        ([row("form.a", "form.b"), row("form.b", "form.a")], ["form.a looks at form.b, which is not above it"]),
        ([row("form.a", "form.a")], ["form.a looks at form.a, which is not above it"]),
        ([row("form.a"), row("form.b", "form.none")], ["form.b looks at form.none, which is not above it"]),
        ([row("form.a"), row("form.a")], ["form.a is there twice"]),
        ([row("form.a"), replace(row("form.b"), across=("x",))], ["form.b looks at x, which is not above it"]),
        ([row("form.a"), row("form.b", "form.a", *GIVEN)], []),
    ],
)
def test_a_table_that_does_not_stand_is_seen(rows: list[Check], wrong: list[str]) -> None:
    assert unsound(rows) == wrong


def test_every_rule_that_a_row_names_is_in_its_specification() -> None:
    missing = [
        (each.code, spec, rule)
        for each in CHECKS
        for spec, rule in rules_of(each)
        if f"\n**{rule}**" not in (SPECS / spec).read_text(encoding="utf-8")
    ]
    assert missing == []


def test_every_check_that_a_rule_names_has_a_row() -> None:
    stages = "|".join(stage.value for stage in Stage if stage is not Stage.REPLAY)
    named = set(re.findall(rf"`((?:{stages})\.(?!md)[a-z-]+)`", AUDIT))
    assert "release.granted-heights" in named
    assert named - BY_CODE.keys() == set()


def test_the_specification_has_the_table() -> None:
    """After a change of the checks: what stands on the right goes there."""
    begin = AUDIT.index("| check | rule | rests on |")
    assert AUDIT[begin:].split("\n\n", 1)[0].splitlines() == table(CHECKS)


def table(rows: Sequence[Check]) -> list[str]:
    lines = ["| check | rule | rests on |", "|---|---|---|"]
    for each in rows:
        rests_on = ", ".join(f"`{name}`" for name in each.rests_on) or "the file"
        lines.append(f"| `{each.code}` | {each.rule} | {rests_on} |")
    return lines


# -- the loop


def made(rows: Sequence[Check]) -> Mapping[str, set[FindingStanding]]:
    """How each check of the table stands after an audit of a sound bundle."""
    found: dict[str, set[FindingStanding]] = {}
    for finding in judge_all(rows, STAGES, GOOD, terms()).findings:
        if finding.standing is not FindingStanding.NOT_REACHED:
            found.setdefault(finding.code, set()).add(finding.standing)
    return found


def refuse(*_: object) -> Held[None]:
    raise AuditRefused("test", expected="nothing", got="something")


SOUND = made(CHECKS)


@pytest.mark.parametrize("code", [each for each in BY_CODE if each in SOUND])
def test_what_is_not_reached_follows_from_what_rests_on_what(code: str) -> None:
    """One check fails; those that need it are not made, those that need these are not, and all others are."""
    lost = {code}
    for each in CHECKS:
        if lost & set(each.rests_on):
            lost.add(each.code)
    found = made([replace(each, judge=refuse) if each.code == code else each for each in CHECKS])
    assert found[code] == {FindingStanding.FAILS}
    assert found.keys() == SOUND.keys() - (lost - {code})


def test_one_cell_that_fails_takes_nothing_from_the_other() -> None:
    def refuse_first(cell: int, *_: object) -> Held[bytes]:
        return refuse() if cell == 0 else Held(b"")  # type: ignore[return-value]

    rows = [row("form.bundle", "the file"), row("evidence.a", "the cell"), row("evidence.b", "evidence.a")]
    rows = [BY_CODE["form.bundle"], *(replace(each, scope=Scope.CELL) for each in rows[1:])]
    rows[1] = replace(rows[1], judge=refuse_first)
    rows[2] = replace(rows[2], judge=lambda _: Held(None))
    findings = judge_all(rows, STAGES, GOOD, terms()).findings
    assert [(each.code, each.cell, each.standing) for each in findings[1:]] == [
        ("evidence.a", 0, FindingStanding.FAILS),
        ("evidence.a", 1, FindingStanding.HOLDS),
        ("evidence.b", 1, FindingStanding.HOLDS),
    ]
