"""Compares the outputs of several cells and names the first difference (docs/spec/audit.md U40, U41).

Says nothing about who signed what: that is the audit's. Two outputs that differ and are both genuine are the alarm that
no single cell can raise.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Self

from attestation.auditor.audit_bundle import AnswersPart, AuditBundle, ReceiptsPart
from attestation.auditor.errors import AuditRefused
from attestation.receipts.body import Receipt
from attestation.receipts.signed_receipt import SignedReceipt
from foundation.refusal import listed

PlaceKey = tuple[int, int]


@dataclass(frozen=True, slots=True)
class CellAnswer:
    """One cell's answer at one place: the body of its receipt and, if shown, the bytes of the answer."""

    body: bytes
    answer: bytes | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class Output:
    """One cell's, by place in the order."""

    name: str
    said: Mapping[PlaceKey, CellAnswer]

    @classmethod
    def all_of(cls, name: str, raw: bytes) -> tuple[Self, ...]:
        """Of every cell in a bundle. Raises a `Refused` for bytes that are none."""
        bundle = AuditBundle.parse(raw)
        if bundle.damaged:
            raise AuditRefused(
                "damaged",
                expected="parts that fit their digests",
                got=f"other digests for {listed(part.value for part, _ in bundle.damaged)}",
            )
        answers = AnswersPart.parse(bundle.answers).answers
        outputs = []
        for number, cell in enumerate(bundle.cells):
            signed = [SignedReceipt.parse(each) for each in ReceiptsPart.parse(cell.receipts).signed]
            if len(signed) != len(answers):
                raise AuditRefused("answers", expected=f"{len(signed)} answers", got=len(answers))
            said = {
                each.receipt.place: CellAnswer(each.body, answer.said)
                for each, answer in zip(signed, answers, strict=True)
            }
            outputs.append(cls(name if len(bundle.cells) == 1 else f"{name}, cell {number + 1}", said))
        return tuple(outputs)


@dataclass(frozen=True, slots=True)
class Divergence:
    """The first place, in the order, where two outputs differ, and in what."""

    place: PlaceKey
    one: str
    other: str
    what: str


@dataclass(frozen=True, slots=True)
class Comparison:
    """`compared` counts the places that every output has; `only_some` those that some have."""

    outputs: int
    compared: int
    only_some: int
    divergence: Divergence | None

    @property
    def equal(self) -> bool:
        return self.divergence is None


def compare(outputs: Sequence[Output]) -> Comparison:
    """Every output against the first, place by place. Raises `AuditRefused` where there is nothing to compare."""
    if len(outputs) < 2:
        raise AuditRefused("compare", expected="two outputs or more", got=len(outputs))
    everywhere = set(outputs[0].said).intersection(*(output.said for output in outputs[1:]))
    anywhere = set(outputs[0].said).union(*(output.said for output in outputs[1:]))
    if not everywhere:
        raise AuditRefused("compare", expected="a request that all of them answered", got="none")
    first = outputs[0]
    for place in sorted(everywhere):
        for other in outputs[1:]:
            what = _difference(first.said[place], other.said[place])
            if what is not None:
                found = Divergence(place, first.name, other.name, what)
                return Comparison(len(outputs), len(everywhere), len(anywhere) - len(everywhere), found)
    return Comparison(len(outputs), len(everywhere), len(anywhere) - len(everywhere), None)


def _difference(one: CellAnswer, two: CellAnswer) -> str | None:
    if one.body != two.body:
        left, right = Receipt.parse(one.body), Receipt.parse(two.body)
        if left.by.release != right.by.release:  # U41: no block is two releases' (governance.md V23)
            return f"releases {left.by.release} and {right.by.release} both answered it"
        names = [name for name in Receipt.__slots__ if getattr(left, name) != getattr(right, name)]
        return f"receipts differ in {', '.join(names)}"
    if one.answer is None or two.answer is None or one.answer == two.answer:
        return None
    at = next(
        (at for at, (a, b) in enumerate(zip(one.answer, two.answer, strict=False)) if a != b),
        min(len(one.answer), len(two.answer)),
    )
    return f"answers of {len(one.answer)} and {len(two.answer)} bytes differ from byte {at} on"
