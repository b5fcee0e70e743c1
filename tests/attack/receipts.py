"""Attacks on receipts and audits: bundles in which one thing is not as it was, before the auditor."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from hashlib import sha256
from typing import Any

from appliance.ordering.sequencer import OrderedRequest
from appliance.serving.receipts import Conclusion, ReceiptBook
from attestation.auditor.audit import audit
from attestation.auditor.audit_bundle import AnswersPart, AuditBundle, ReceiptsPart, ReleasePart
from attestation.auditor.checks import CHECKS
from attestation.auditor.terms import AuditTerms
from attestation.rcar.grant import NO_ADOPTION
from attestation.receipts.price import PriceSchedule
from attestation.receipts.signed_receipt import SignedReceipt, sign
from devnet.subnet import GATEWAY
from measurements.release.heights import Heights
from tests.attack.outcome import Outcome, Unexpected, broken, held
from tests.attack.registry import Attack, Weaken, add
from tests.attack.room import Room
from tests.attack.weakening import instead, without
from tests.little_audit import (
    PRICE,
    LittleCellHost,
    chain,
    conclusion,
    good,
    measured_config,
    ordered,
    run_cell,
    served_by,
    terms,
    world,
)
from tests.little_receipts import raw, receipt_key

RECEIPTS = "attestation.auditor.receipt_checks:"
Made = Callable[[], tuple[AuditBundle, AuditTerms]]


def audited(make: Made, code: str) -> Callable[[Room], Outcome]:
    """Held if the audit fails, and first of all at this check."""

    def run(room: Room) -> Outcome:
        bundle, of = make()
        report = audit(bundle.encode(), of)
        if report.ok:
            return broken("the audit says that all is well")
        first = report.failed[0]
        if first.code != code:
            raise Unexpected(f"expected {code}, got {first.code}: {first.got}")
        return held(f"the audit fails at {first.code}")

    return run


def unasked(*codes: str) -> Weaken:
    """An auditor whose table lacks these checks."""
    return instead("attestation.auditor.audit:CHECKS", tuple(row for row in CHECKS if row.code not in codes))


def sound() -> AuditBundle:
    return AuditBundle.parse(good())


def with_cell(bundle: AuditBundle, **parts: bytes) -> AuditBundle:
    return replace(bundle, cells=(replace(bundle.cells[0], **parts), *bundle.cells[1:]))


def bundle_of(*cells: LittleCellHost, last: int = 3) -> AuditBundle:
    return world().bundle(1, last, cells=cells)


def cell_a(**changes: Any) -> LittleCellHost:
    """The world's first cell, run otherwise."""
    return run_cell("cell a", measured_config(), chain(), **changes)


def bent(number: int, **changes: Any) -> Callable[[OrderedRequest, Conclusion], Conclusion]:
    return lambda request, said: replace(said, **changes) if request.id == number else said


def forged() -> tuple[AuditBundle, AuditTerms]:
    bundle, ours = sound(), receipt_key("the host")
    part = ReceiptsPart.parse(bundle.cells[0].receipts)
    signed = tuple(sign(SignedReceipt.parse(each).body, ours, raw(ours)) for each in part.signed)
    return with_cell(bundle, receipts=replace(part, signed=signed).encode()), terms()


def other_words() -> tuple[AuditBundle, AuditTerms]:
    bundle = sound()
    first, *others = AnswersPart.parse(bundle.answers).answers
    changed = replace(first, said=b"what the host would have it say")
    return replace(bundle, answers=AnswersPart((changed, *others)).encode()), terms()


def executed_otherwise() -> tuple[AuditBundle, AuditTerms]:
    """A cell that signs for another request than was ordered."""
    host = LittleCellHost("cell a", ReceiptBook(receipt_key("cell a"), served_by(measured_config()), GATEWAY, PRICE))
    for height in range(1, chain().height + 1):
        for request in ordered(chain(), height):
            ran = replace(request, request_digest=sha256(b"another").digest()) if request.id == 2 else request
            host.signed.append(host.book.issue(ran, conclusion(request)).signed)
        host.notes.append(host.book.checkpoint())
    return bundle_of(host), terms()


def never_granted() -> tuple[AuditBundle, AuditTerms]:
    bundle = sound()
    part = ReleasePart.parse(bundle.cells[0].release)
    return with_cell(bundle, release=replace(part, entries=part.entries[:1]).encode()), terms()


def two_that_differ() -> tuple[AuditBundle, AuditTerms]:
    other = run_cell("cell b", measured_config(), chain(), bend=bent(2, tokens_out=8))
    return bundle_of(world().cells[0], other), terms()


def rolled_back() -> tuple[AuditBundle, AuditTerms]:
    newest = world().cells[0].notes[-1]
    return bundle_of(cell_a(last=2), last=2), terms(seen=(newest,))


def two_histories() -> tuple[AuditBundle, AuditTerms]:
    shown_elsewhere = cell_a(bend=bent(2, tokens_out=8)).notes[-1]
    return bundle_of(cell_a()), terms(seen=(shown_elsewhere,))


AUDITS: dict[str, tuple[str, Made, str, str, Weaken]] = {
    "signed-by-the-host": (
        "receipts of true bodies, signed by a key of the host's",
        forged,
        "receipts.signed",
        "receipts are signed by the key in the cell's evidence (T9 to T11)",
        without("attestation.receipts.signed_receipt:SignedReceipt.verify"),
    ),
    "words-exchanged": (
        "other words beside a true receipt",
        other_words,
        "answers.said",
        "a receipt names its answer's bytes (T12)",
        instead("attestation.auditor.answer_checks:_check_said", lambda answers, receipts: ""),
    ),
    "another-prompt-run": (
        "a receipt for another request than was ordered",
        executed_otherwise,
        "receipts.executed",
        "the cell hashes what it executed, and the order says what that must be (T4)",
        without(f"{RECEIPTS}_check_requests"),
    ),
    "seed-chosen": (
        "an answer whose randomness is not the beacon's",
        lambda: (bundle_of(cell_a(bend=bent(2, seed=bytes(32)))), terms()),
        "receipts.seed",
        "the seed is committed to, and follows from the beacon (T15)",
        instead(f"{RECEIPTS}_check_seeds", lambda receipts, places: ""),
    ),
    "another-release": (
        "receipts that name an older release",
        lambda: (bundle_of(cell_a(by=served_by(measured_config(), "little-0"))), terms()),
        "receipts.release",
        "receipts name release, decision and configuration as granted and measured (T2, T3)",
        without(f"{RECEIPTS}_check_by"),
    ),
    "never-granted": (
        "a cell to which no broker gave a key",
        never_granted,
        "release.granted",
        "the broker's own signed log has the grant to this very cell (U15)",
        instead("attestation.auditor.release_checks:_granted", lambda *_: ("little-1", NO_ADOPTION, Heights(1, None))),
    ),
    "cells-that-differ": (
        "two cells that say different things of one request",
        two_that_differ,
        "receipts.same",
        "bodies differ nowhere between cells (U21)",
        unasked("receipts.same"),
    ),
    "overcharged": (
        "a price that is not the measured one",
        lambda: (bundle_of(cell_a(price=PriceSchedule(9_000_000, 2_000, 10_000))), terms()),
        "metering.price",
        "price and sum follow from the measured configuration (T16, T17)",
        unasked("metering.price", "metering.sum"),
    ),
    "log-rolled-back": (
        "a receipt log that is shorter than one that was seen",
        rolled_back,
        "log.seen",
        "a checkpoint seen elsewhere has to be of this log (U27)",
        unasked("log.seen"),
    ),
    "two-logs": (
        "another log of the same size, shown to somebody else",
        two_histories,
        "log.seen",
        "two roots of one size under one key convict the cell (T22, U27)",
        unasked("log.seen"),
    ),
}

for name, (tries, make, code, defence, weaken) in AUDITS.items():
    add(Attack(f"receipts.{name}", tries, defence, audited(make, code), weaken))
