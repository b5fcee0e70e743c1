"""Every attack is held, each is broken without its defence, and the threat model's table is the list of them."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import pytest

from tests.attack.outcome import held
from tests.attack.registry import SUBJECTS, Attack, every
from tests.attack.running import Verdict, run
from tests.attack.table import HEAD, table
from tests.attack.weakening import Patch

ALL: Final = every()
ROOT: Final = Path(__file__).resolve().parents[2]


def parameters(attacks: dict[str, Attack]) -> list[object]:
    return [pytest.param(one, id=name, marks=[pytest.mark.vm] if one.booted else []) for name, one in attacks.items()]


@pytest.mark.slow
@pytest.mark.parametrize("one", parameters(ALL))
def test_it_is_held(one: Attack) -> None:
    result = run(one)
    if result.verdict is Verdict.NOT_TRIED:
        pytest.skip(result.happened)
    assert result.verdict is Verdict.HELD, result.line


@pytest.mark.full
@pytest.mark.slow
@pytest.mark.parametrize("one", parameters(ALL))
def test_without_its_defence_it_is_broken(one: Attack) -> None:
    result = run(one, undefended=True)
    if result.verdict is Verdict.NOT_TRIED:
        pytest.skip(result.happened)
    assert result.verdict is Verdict.BROKEN, result.line


def test_the_threat_model_has_the_table_of_them_all() -> None:
    """After a change: `python -m tests.attack --table`."""
    page = (ROOT / "docs/threat-model.md").read_text(encoding="utf-8")
    begin = page.index(HEAD)
    rows = page[begin:].split("\n\n", 1)[0].rstrip("\n").splitlines()
    expected = table(ALL.values()).splitlines()
    assert [line for line in rows if line not in expected] == []
    assert rows == expected


def test_each_is_named_after_its_subject() -> None:
    assert {name.partition(".")[0] for name in ALL} <= set(SUBJECTS)
    assert len(ALL) >= 30


def test_an_attack_that_faults_is_neither_held_nor_broken() -> None:
    def faulty(room: object) -> None:
        raise RuntimeError("by itself")

    one = Attack("order.faulty", "x", "y", faulty, lambda patch: None)  # type: ignore[arg-type]
    assert run(one).verdict is run(one, undefended=True).verdict is Verdict.FAULT


def test_a_defence_that_has_moved_is_a_fault() -> None:
    one = Attack("order.moved", "x", "y", lambda room: held(""), lambda patch: patch.put("foundation.refusal:Gone", 1))
    assert run(one).verdict is Verdict.HELD
    assert run(one, undefended=True).verdict is Verdict.FAULT


def test_a_defence_is_put_back() -> None:
    patch, before = Patch(), SUBJECTS
    patch.put("tests.attack.registry:SUBJECTS", ())
    assert patch.now("tests.attack.registry:SUBJECTS") == ()
    patch.undo()
    assert patch.now("tests.attack.registry:SUBJECTS") is before
