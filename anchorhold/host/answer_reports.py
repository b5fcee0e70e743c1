"""Collects a cell's answers at the host: keeps the bytes of each answer until its receipt comes, and reports both.

The host cannot read a sealed answer, need not understand a receipt, and trusts neither. A receipt for another place,
or one that does not parse, is refused here only so that a broken cell is noticed early.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Final

from appliance.serving.window import Answered, Checkpoint, Piece, Say
from attestation.receipts.signed_receipt import SignedReceipt
from foundation.refusal import Refused
from foundation.secrecy import Prompt


class ReportRefused(Refused):
    """The cell sent a message that no correct cell sends."""

    stage = "report"


@dataclass(frozen=True, slots=True)
class Report:
    """What a reporter brings for one position. All but the cell's own `signature` is equal on every cell."""

    height: int
    index: int
    answer: bytes
    receipt: bytes
    signature: bytes


@dataclass(frozen=True, slots=True)
class CompletedAnswer:
    """A finished request: every byte of its answer, and the cell's receipt for it."""

    answer: Prompt
    signed: SignedReceipt
    raw: bytes = field(repr=False)  # the receipt as it came

    @property
    def place(self) -> tuple[int, int]:
        return self.signed.receipt.place

    def report(self) -> Report:
        """For the gateway: all but the signature is the same from every cell."""
        height, index = self.place
        return Report(
            height=height,
            index=index,
            answer=self.answer.reveal(),
            receipt=self.signed.body,
            signature=self.signed.signature,
        )


@dataclass(frozen=True, slots=True)
class Delivered:
    """What became of one answer at the gateway: `recorded`, `repeated`, `diverged`, or the refusal."""

    place: tuple[int, int]
    outcome: str | Refused

    def __str__(self) -> str:
        height, index = self.place
        return f"answer {height}/{index}: {self.outcome}"


def deliver(answers: Iterable[CompletedAnswer], report: Callable[[Report], str]) -> list[Delivered]:
    """Report every answer to the gateway. A refused answer does not stop the others."""
    return [Delivered(answer.place, _outcome(answer, report)) for answer in answers]


def _outcome(answer: CompletedAnswer, report: Callable[[Report], str]) -> str | Refused:
    try:
        return report(answer.report())
    except Refused as refusal:
        return refusal


class AnswerCollector:
    """Answers by their places in the order. A broken connection changes nothing: the cell sends each message once."""

    def __init__(self) -> None:
        self._pieces: Final[dict[tuple[int, int], bytearray]] = {}
        self.answers: Final[dict[tuple[int, int], CompletedAnswer]] = {}
        self.notes: Final[list[bytes]] = []  # checkpoints, in the order they came

    def add(self, say: Say) -> CompletedAnswer | None:
        """What is complete with this, if anything. Raises `ReportRefused` or `ReceiptRefused`."""
        match say:
            case Piece(height, index, words):
                self._pieces.setdefault((height, index), bytearray()).extend(words)
            case Answered(height, index, raw):
                return self._done((height, index), raw)
            case Checkpoint(_, note):
                self.notes.append(note)
            case _:
                pass
        return None

    def _done(self, place: tuple[int, int], raw: bytes) -> CompletedAnswer:
        signed = SignedReceipt.parse(raw)
        if signed.receipt.place != place or place in self.answers:
            raise ReportRefused(
                "report.place",
                expected=f"one receipt for {place}",
                got=f"a receipt for {signed.receipt.place}"
                if signed.receipt.place != place
                else "a second receipt for it",
            )
        pieces = bytes(self._pieces.pop(place, b""))
        answer = CompletedAnswer(
            Prompt(b"" if signed.receipt.refused else pieces), signed, raw
        )  # window.md N9: else void
        self.answers[place] = answer
        return answer
