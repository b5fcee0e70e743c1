"""Invariant: any bytes are audited to the end; a bundle that parses without damage encodes back to them; each part
that parses encodes back to itself; and nothing but the seeds is ever found to hold."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Protocol

from attestation.auditor.audit import audit
from attestation.auditor.audit_bundle import AnswersPart, AskedPart, AuditBundle, LogPart, ReceiptsPart, ReleasePart
from attestation.auditor.comparison import Output, compare
from attestation.auditor.errors import AuditRefused
from attestation.auditor.measured import Measured
from attestation.auditor.page import page
from foundation.refusal import Refused
from tests.little_audit import good, terms, world

HOLDING = [good(), world().bundle(show_plain=False, answers=False).encode()]
_PARSED = AuditBundle.parse(HOLDING[0])
PARTS = [_PARSED.config, _PARSED.asked, _PARSED.answers, *_PARSED.cells[0].all[1:]]
SEEDS: list[bytes] = [*HOLDING, *PARTS, b""]
TERMS = terms()


class _Part(Protocol):
    def encode(self) -> bytes: ...


KINDS: list[Callable[[bytes], _Part]] = [
    AskedPart.parse,
    AnswersPart.parse,
    ReleasePart.parse,
    ReceiptsPart.parse,
    LogPart.parse,
]


def one_input(data: bytes) -> None:
    for kind in KINDS:
        try:
            value = kind(data)
        except AuditRefused:
            continue
        if value.encode() != data:
            raise AssertionError("a part with a second encoding")
    with contextlib.suppress(AuditRefused):
        Measured.parse(data)
    _bundle(data)


def _bundle(data: bytes) -> None:
    try:
        bundle = AuditBundle.parse(data)
    except AuditRefused:
        return
    if not bundle.damaged and bundle.encode() != data:
        raise AssertionError("a bundle with a second encoding")
    report = audit(data, TERMS)
    page(report, title="fuzzed")
    if report.ok and data not in HOLDING:
        raise AssertionError("a bundle that was never made holds")
    # Behind its own digests too, so that damage does not hide what lies below it.
    if audit(bundle.encode(), TERMS).ok and bundle.encode() not in HOLDING:
        raise AssertionError("a bundle that was never made holds behind its digests")
    try:
        compare(Output.all_of("fuzzed", data))
    except Refused:
        return
