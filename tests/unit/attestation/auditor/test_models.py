"""audit.md U23: the auditor says by itself which requests name another model, and holds the receipts against that."""

from __future__ import annotations

from dataclasses import replace

import pytest

from anchorhold.replay.replayer import records
from attestation.auditor.audit import audit
from attestation.auditor.audit_bundle import AuditBundle
from attestation.auditor.checks import CHECKS, STAGES
from attestation.auditor.findings import Finding, FindingStanding
from attestation.auditor.measured import Measured
from attestation.auditor.receipt_checks import Receipted
from attestation.auditor.rows import FILE, Check, Held, Scope, judge_all
from attestation.consensus.blocks import Kind
from attestation.consensus.chat import NOT_SERVED
from attestation.receipts.body import Receipt
from attestation.receipts.outcome import NO_ANSWER, Finish, Outcome
from attestation.receipts.seeds import SeedPolicy
from tests import little_replay
from tests.little_audit import measured_config, terms

RECORDS = [record for record in records(little_replay.bundle()) if record is not None]
MEASURED = Measured.parse(measured_config())


def judged(bundle: AuditBundle, measured: Measured, receipts: list[object]) -> Finding:
    """The finding of that row alone, over other receipts than those of the bundle."""
    signed = tuple(_Signed(receipt) for receipt in receipts)
    found = Receipted(signed)  # type: ignore[arg-type]
    rows = [
        Check("form.bundle", "", "", lambda _: Held(bundle), needs=(FILE,), scope=Scope.BUNDLE),
        Check("configuration.read", "", "", lambda: Held(measured), scope=Scope.BUNDLE),
        Check("order.asked-whole", "", "", lambda: Held(bundle.asked), scope=Scope.BUNDLE),
        Check("receipts.complete", "", "", lambda: Held(found)),
        next(row for row in CHECKS if row.code == "receipts.model"),
    ]
    [finding, *_] = [each for each in judge_all(rows, STAGES, b"", terms()).findings if each.code == "receipts.model"]
    return finding


class _Signed:
    """A receipt whose signature another check looks at."""

    def __init__(self, receipt: object) -> None:
        self.receipt = receipt


def refused(receipt: Receipt, code: str) -> Receipt:
    return replace(
        receipt,
        finish=code,
        answer=NO_ANSWER,
        tokens_in=0,
        tokens_out=0,
        seed_policy=SeedPolicy.BEACON,
        outcome=Outcome.refusal(code).commitment(),
        cycles=0,
    )


def test_the_names_of_the_configuration_are_held_against_every_plain_receipt() -> None:
    report = audit(little_replay.bundle().encode(), terms())
    assert [finding.standing for finding in report.findings if finding.code == "receipts.model"] == [
        FindingStanding.HOLDS
    ]


@pytest.mark.parametrize("names", [{"llama3.1:8b"}, set()])
def test_an_answer_under_a_name_that_was_not_measured_is_found(names: set[str]) -> None:
    receipts = [record.receipt for record in RECORDS]
    finding = judged(little_replay.bundle(), replace(MEASURED, names=frozenset(names)), list(receipts))
    assert finding.standing is FindingStanding.FAILS
    assert NOT_SERVED in finding.expected


def test_a_refusal_for_a_name_that_was_measured_is_found() -> None:
    receipts = [record.receipt for record in RECORDS]
    number = next(n for n, each in enumerate(receipts) if each.kind is Kind.PLAIN and each.finish is Finish.STOP)
    receipts[number] = refused(receipts[number], NOT_SERVED)
    assert judged(little_replay.bundle(), MEASURED, list(receipts)).standing is FindingStanding.FAILS


def test_what_was_wrong_before_the_model_is_not_taken_for_it() -> None:
    """A payload that is no chat, and a plain request where none is run, are refused for that."""
    receipts = [record.receipt for record in RECORDS]
    number = next(n for n, each in enumerate(receipts) if each.kind is Kind.PLAIN and each.finish == "chat.encoding")
    receipts[number] = refused(receipts[number], NOT_SERVED)
    assert judged(little_replay.bundle(), MEASURED, list(receipts)).standing is FindingStanding.FAILS
    closed = replace(MEASURED, names=frozenset(), plaintext=False)
    plain = [
        refused(record.receipt, "plain.refused") if record.receipt.kind is Kind.PLAIN else record.receipt
        for record in RECORDS
    ]
    assert judged(little_replay.bundle(), closed, list(plain)).standing is FindingStanding.HOLDS
