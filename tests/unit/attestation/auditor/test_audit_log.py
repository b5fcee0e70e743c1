"""audit.md: the log of receipts: its checkpoints, and what was seen of it before."""

from __future__ import annotations

from dataclasses import replace

from appliance.serving.receipts import ReceiptBook
from attestation.auditor.audit_bundle import LogPart, audit_nonce
from attestation.auditor.findings import FindingStanding, Status
from attestation.receipts.fork import ForkDocument
from devnet.subnet import GATEWAY
from tests.little_audit import PRICE, conclusion, ordered, run_cell, served_by, terms, world
from tests.little_receipts import raw, receipt_key
from tests.unit.attestation.auditor.audited_bundles import BUNDLE, GOOD, bent_at, first, judged, one_cell, with_cell


def test_a_slice_out_of_a_longer_log() -> None:  # receipt.md T23, audit.md U24
    assert judged(world().bundle(2, 2), terms(nonces=(audit_nonce(world().chain.link(1)),))).ok


def test_a_fork_shows_and_is_handed_out_as_a_document() -> None:  # audit.md U27
    another = run_cell("cell a", world().config, world().chain, bend=bent_at(8, tokens_out=9))
    report = judged(GOOD, terms(seen=(another.notes[-1],)))
    assert (first(report).code, first(report).status) == ("log.seen", Status.LOG)
    assert "evidence of fraud" in first(report).got
    assert ForkDocument.parse(report.forks[0]).check() == "signed two different logs of 10 receipts"


def test_a_fork_that_ended_earlier_shows() -> None:  # audit.md U27
    another = run_cell("cell a", world().config, world().chain, bend=bent_at(0, tokens_out=9))
    assert first(judged(GOOD, terms(seen=(another.notes[0],)))).code == "log.seen"


def test_a_log_that_was_rolled_back_shows() -> None:  # audit.md U27
    cell = world().cells[0]
    short = replace(world(), cells=(replace(cell, signed=cell.signed[:5], notes=cell.notes[:2]),))
    assert judged(short.bundle(1, 2)).ok
    finding = first(judged(short.bundle(1, 2), terms(seen=(cell.notes[2],))))
    assert "rolled-back" in finding.got


def test_what_was_seen_of_the_same_log_agrees() -> None:  # audit.md U27
    cell = world().cells[0]
    cosigned = cell.notes[1] + "\u2014 witness.example/w PlsIxA==\n".encode()
    report = judged(GOOD, terms(seen=(cosigned, cell.notes[2], world().cells[1].notes[0])))
    assert report.ok
    assert len([f for f in report.findings if f.code == "log.seen" and f.standing is FindingStanding.HOLDS]) == 3


def test_earlier_checkpoints_need_their_proofs_and_their_order() -> None:  # receipt.md T22, T23, audit.md U25
    part = LogPart.parse(BUNDLE.cells[0].log)
    for earlier in (((part.earlier[0][0], ()),), part.earlier[::-1], (*part.earlier, (part.newest, ()))):
        bundle = with_cell(BUNDLE, log=replace(part, earlier=tuple(earlier)).encode())
        assert first(judged(bundle)).code == "log.consistency"


def test_a_fork_inside_a_bundle_is_fraud() -> None:  # audit.md U27
    another = run_cell("cell a", world().config, world().chain, bend=bent_at(8, tokens_out=9))
    part = LogPart.parse(BUNDLE.cells[0].log)
    report = judged(with_cell(BUNDLE, log=replace(part, earlier=((another.notes[-1], ()),)).encode()))
    assert "evidence of fraud" in first(report).got
    assert ForkDocument.parse(report.forks[0]).key == raw(receipt_key("cell a"))


def test_receipts_that_stand_elsewhere_in_the_log_are_found() -> None:  # receipt.md T23
    part = LogPart.parse(BUNDLE.cells[0].log)
    for bent in (replace(part, first=1), replace(part, beside=(bytes(32),))):
        assert first(judged(with_cell(BUNDLE, log=bent.encode()))).code == "log.inclusion"


def test_a_checkpoint_in_the_middle_of_a_block_is_found() -> None:  # receipt.md T22, audit.md U26
    cell = run_cell("cell a", world().config, world().chain)
    again = ReceiptBook(receipt_key("cell a"), served_by(world().config), GATEWAY, PRICE)
    notes = []
    for height in (1, 2, 3):
        for request in ordered(world().chain, height):
            again.issue(request, conclusion(request))
            if request.id == 0:
                notes.append(again.checkpoint())
    cell.notes[:] = [*notes, again.checkpoint()]
    assert first(judged(one_cell(cell))).code == "log.blocks"


def test_another_key_s_checkpoint_is_not_this_log_s() -> None:  # receipt.md T19
    part = LogPart.parse(BUNDLE.cells[1].log)
    assert first(judged(with_cell(BUNDLE, log=part.encode()))).code == "log.checkpoint"
