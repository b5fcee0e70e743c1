"""The links about what was said and what it cost judged (audit.md U30, U31)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from attestation.auditor.audit_bundle import AnswersPart
from attestation.auditor.errors import AuditRefused
from attestation.auditor.measured import Measured
from attestation.auditor.receipt_checks import Receipted
from attestation.auditor.rows import Failed, Held, NothingToCheck
from attestation.consensus.blocks import Kind
from attestation.receipts.body import Receipt
from attestation.receipts.outcome import Opening, answer_digest


def said(raw: bytes, cells: Mapping[int, Receipted]) -> Held[AnswersPart] | Failed[AnswersPart]:
    answers = AnswersPart.parse(raw)
    try:
        got = _check_said(answers, _first(cells))
    except AuditRefused as refusal:
        return Failed(refusal, answers)  # how they ended can be looked at all the same
    return Held(answers, got)


def outcomes(answers: AnswersPart, cells: Mapping[int, Receipted]) -> Held[None] | NothingToCheck[None]:
    openings = sum(each.opening is not None for each in answers.answers)
    if not openings:
        return NothingToCheck("the bundle opens none")
    _check_openings(answers, _first(cells))
    return Held(None, f"{openings} opened")


def _first(cells: Mapping[int, Receipted]) -> tuple[Receipt, ...]:
    """Of one cell: that all say the same is a check of its own."""
    return cells[min(cells)].receipts


def _check_said(answers: AnswersPart, receipts: Sequence[Receipt]) -> str:
    if len(answers.answers) != len(receipts):
        raise AuditRefused("answers", expected=f"{len(receipts)} answers", got=len(answers.answers))
    shown = 0
    for answer, receipt in zip(answers.answers, receipts, strict=True):
        if answer.said is None:
            continue
        if receipt.refused and answer.said:
            raise AuditRefused(
                "answers", expected=f"no words at {receipt.place}, which was refused", got=f"{len(answer.said)} bytes"
            )
        if answer_digest((answer.said,)) != receipt.answer:
            raise AuditRefused(
                "answers",
                expected=f"the answer at {receipt.place}",
                got=f"an answer of digest {answer_digest((answer.said,)).hex()}",
            )
        shown += 1
    return f"{shown} of {len(receipts)}; the others are withheld" if shown < len(receipts) else f"all {shown}"


def _check_openings(answers: AnswersPart, receipts: Sequence[Receipt]) -> None:
    for answer, receipt in zip(answers.answers, receipts, strict=True):
        if answer.opening is None:
            continue
        opening = Opening.parse(answer.opening)
        opening.check(receipt.outcome)
        if receipt.refused or receipt.kind is not Kind.PLAIN:
            continue
        said = opening.outcome
        if (said.finish, said.tokens_in, said.tokens_out, said.output) != (
            receipt.finish,
            receipt.tokens_in,
            receipt.tokens_out,
            receipt.answer,
        ):
            raise AuditRefused(
                "outcome",
                expected=f"what the receipt of {receipt.place} says in clear",
                got=f"finish {said.finish}, {said.tokens_in} and {said.tokens_out} tokens",
            )


def price(measured: Measured, found: Receipted) -> Held[None]:
    stated = measured.price
    for receipt in found.receipts:
        if receipt.price != stated.digest:
            raise AuditRefused("price", expected=stated.digest.hex(), got=receipt.price.hex())
    return Held(
        None, f"{stated.request} for a request, {stated.token_in} for a token in, {stated.token_out} for one out"
    )


def charges(measured: Measured, found: Receipted) -> Held[None]:
    for receipt in found.receipts:
        cycles = measured.price.cycles(receipt.tokens_in, receipt.tokens_out)
        if receipt.cycles != cycles:
            raise AuditRefused("cycles", expected=f"{cycles} at {receipt.place}", got=receipt.cycles)
    return Held(None, f"{sum(receipt.cycles for receipt in found.receipts)} cycles in all")
