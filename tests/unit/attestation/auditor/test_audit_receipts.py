"""audit.md: the receipts, and the answers that they are of."""

from __future__ import annotations

from dataclasses import replace

import pytest

from appliance.ordering.sequencer import OrderedRequest
from appliance.serving.receipts import Conclusion
from attestation.auditor.audit_bundle import Answer, AnswersPart, AuditBundle, ReceiptsPart
from attestation.auditor.findings import Status
from attestation.receipts.outcome import Opening
from attestation.receipts.price import PriceSchedule
from tests.little_audit import run_cell, served_by, world
from tests.unit.attestation.auditor.audited_bundles import BUNDLE, bent_at, first, judged, one_cell, with_cell

# -- receipts


def test_a_receipt_left_out_is_missed() -> None:  # audit.md U20
    signed = ReceiptsPart.parse(BUNDLE.cells[0].receipts).signed
    for number in range(len(signed)):
        left = ReceiptsPart(signed[:number] + signed[number + 1 :]).encode()
        finding = first(judged(with_cell(BUNDLE, receipts=left)))
        assert (finding.code, finding.status) == ("receipts.complete", Status.LOG)


@pytest.mark.parametrize("which", ["doubled", "swapped"])
def test_a_receipt_is_there_once_and_in_its_place(which: str) -> None:  # audit.md U20
    signed = ReceiptsPart.parse(BUNDLE.cells[0].receipts).signed
    bent = {"doubled": (*signed, signed[-1]), "swapped": (signed[1], signed[0], *signed[2:])}[which]
    assert first(judged(with_cell(BUNDLE, receipts=ReceiptsPart(bent).encode()))).code == "receipts.complete"


def test_a_cell_that_executed_something_else_is_found() -> None:  # receipt.md T4, audit.md U22
    def another(request: OrderedRequest, said: Conclusion) -> Conclusion:
        object.__setattr__(request, "request_digest", b"\x99" * 32)
        return said

    assert (
        first(judged(one_cell(run_cell("cell a", world().config, world().chain, bend=another)))).code
        == "receipts.executed"
    )


def test_a_seed_that_is_not_the_beacon_s_is_found() -> None:  # receipt.md T15
    cell = run_cell("cell a", world().config, world().chain, bend=bent_at(1, seed=b"\x99" * 32))
    assert first(judged(one_cell(cell))).code == "receipts.seed"


def test_a_cell_that_names_what_was_not_released_is_found() -> None:  # receipt.md T2, T3
    for change in ({"release": "another"}, {"config": b"\x99" * 32}, {"model_root": b"\x99" * 32}):
        by = replace(served_by(world().config), **change)  # type: ignore[arg-type]
        cell = run_cell("cell a", world().config, world().chain, by=by)
        assert first(judged(one_cell(cell))).code == "receipts.release"


def test_two_cells_that_differ_are_an_alarm() -> None:  # audit.md U21
    other = run_cell("cell b", world().config, world().chain, bend=bent_at(0, tokens_out=9))
    report = judged(replace(world(), cells=(world().cells[0], other)).bundle())
    assert "receipts.same" in [f.code for f in report.failed]
    found = next(f for f in report.failed if f.code == "receipts.same")
    assert (found.cell, found.got) == (1, "another tokens_out (audit.diverged)")


def test_what_it_cost_is_computed_again() -> None:  # receipt.md T16, T17, audit.md U31
    dearer = PriceSchedule(1_000_000, 2_000, 10_001)
    cell = run_cell("cell a", world().config, world().chain, price=dearer)
    assert [f.code for f in judged(one_cell(cell)).failed] == ["metering.price", "metering.sum"]


# -- answers


def answers_with(number: int, answer: Answer) -> AuditBundle:
    part = AnswersPart.parse(BUNDLE.answers)
    return replace(BUNDLE, answers=AnswersPart((*part.answers[:number], answer, *part.answers[number + 1 :])).encode())


def test_another_answer_is_found() -> None:  # receipt.md T12
    for number in range(10):
        assert first(judged(answers_with(number, Answer(b"other words")))).code == "answers.said"
    assert first(judged(replace(BUNDLE, answers=AnswersPart(()).encode()))).code == "answers.said"


def test_withheld_answers_are_said_to_be() -> None:  # audit.md U30
    report = judged(replace(BUNDLE, answers=AnswersPart((Answer(),) * 10).encode()))
    assert report.ok
    assert "withheld" in next(f.got for f in report.findings if f.code == "answers.said")


def test_another_opening_is_found() -> None:  # receipt.md T13
    part = AnswersPart.parse(BUNDLE.answers)
    opening = Opening.parse(part.answers[2].opening or b"")
    bent = Opening(opening.salt, replace(opening.outcome, tokens_out=8)).encode()
    assert first(judged(answers_with(2, Answer(part.answers[2].said, bent)))).code == "answers.outcome"


def test_a_plain_receipt_s_clear_values_are_those_committed_to() -> None:  # receipt.md T13
    cell = run_cell("cell a", world().config, world().chain, bend=bent_at(0, tokens_out=6))
    report = judged(one_cell(cell))
    assert [f.code for f in report.failed] == ["answers.outcome"]
