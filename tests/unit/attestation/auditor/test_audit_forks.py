"""audit.md U27: a document of fraud convicts by itself, whatever else is wrong with the bundle."""

from __future__ import annotations

from dataclasses import replace

from attestation.auditor.audit_bundle import LogPart
from attestation.receipts.fork import ForkDocument
from tests.little_audit import run_cell, terms, world
from tests.unit.attestation.auditor.audited_bundles import BUNDLE, bent_at, judged, with_cell


def test_a_fork_is_shown_with_its_own_note_where_earlier_checkpoints_do_not_hold() -> None:
    part = LogPart.parse(BUNDLE.cells[0].log)
    backwards = with_cell(BUNDLE, log=replace(part, earlier=part.earlier[::-1]).encode())
    another = run_cell("cell a", world().config, world().chain, bend=bent_at(8, tokens_out=9))
    report = judged(backwards, terms(seen=(another.notes[-1],)))
    assert [finding.code for finding in report.failed] == ["log.consistency", "log.seen"]
    assert ForkDocument.parse(report.forks[0]).check() == "signed two different logs of 10 receipts"
