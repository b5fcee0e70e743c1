"""A returned answer: its text, and the receipt that describes it.

The receipt is held against the request as it was ordered and against the very bytes of the answer; a refusal has a
receipt too. That the key that signed is a cell's, and that the request was ordered, are for others to show.
"""

from __future__ import annotations

import hmac
from dataclasses import dataclass, field
from typing import Final, Self

from attestation.consensus.blocks import Kind, Request
from attestation.receipts.body import Receipt
from attestation.receipts.errors import ReceiptRefused
from attestation.receipts.outcome import NO_ANSWER, Finish, Opening, answer_digest
from attestation.receipts.price import PriceSchedule
from attestation.receipts.signed_receipt import SignedReceipt
from attestation.sealed.errors import AnswerRefused
from foundation.refusal import shown
from foundation.secrecy import Prompt
from measurements.release.heights import Heights
from measurements.release.manifest import Manifest


@dataclass(frozen=True, slots=True)
class Taken:
    """What a gateway gives back for a ticket: the position, the bytes, and one cell's signature over the body."""

    height: int
    index: int
    id: int
    answer: bytes = field(repr=False)
    receipt: bytes = field(repr=False)
    signature: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class Expected:
    """What the receipt must say of the cell. None: not compared, and for the caller to look at.

    `heights`: the blocks that this release is for. `Expected.of` takes all of it from a decided release.
    """

    release: str | None = None
    config: bytes | None = None
    model_root: bytes | None = None
    profile: bytes | None = None
    fingerprint: bytes | None = None
    price: PriceSchedule | None = None
    heights: Heights | None = None

    @classmethod
    def of(cls, manifest: Manifest, heights: Heights | None = None) -> Self:
        """What the manifest says. `heights`: narrower ones, where a successor has begun (`AdoptedRelease.heights`)."""
        price = manifest.price
        return cls(
            release=manifest.version,
            config=manifest.measured_config,
            model_root=manifest.model.root,
            profile=manifest.engine.profile,
            price=PriceSchedule(price.request, price.token_in, price.token_out),
            heights=heights or manifest.serves.heights,
        )


@dataclass(frozen=True, slots=True)
class Answer:
    """The words and how they ended; of a refusal no words and its code."""

    words: Prompt
    finish: Finish | str
    receipt: Receipt
    opening: Opening | None = field(default=None, repr=False)  # of a sealed one: what an auditor may be shown

    @property
    def refused(self) -> bool:
        return self.receipt.refused


_COMPARED: Final = ("release", "config", "model_root", "profile", "fingerprint")


def checked_receipt(
    taken: Taken, receipt_key: bytes, expected: Expected, *, gateway: bytes, kind: Kind, caller: bytes, payload: bytes
) -> Receipt:
    """The receipt, if this key signed it over exactly this request and these bytes. Raises `ReceiptRefused`."""
    receipt = _signed(taken, receipt_key)
    request = Request(taken.id, caller, kind, Prompt(payload)).digest()
    for name, wanted, got in (
        ("gateway", gateway, receipt.gateway),
        ("place", (taken.height, taken.index, taken.id), (*receipt.place, receipt.id)),
        ("kind", kind, receipt.kind),
        ("request", request, receipt.request),
        ("answer", NO_ANSWER if receipt.refused else answer_digest([taken.answer]), receipt.answer),
    ):
        if wanted != got:
            raise ReceiptRefused(name, expected=f"the {name} of this request", got=shown(got))
    _check_cell(receipt, expected)
    return receipt


def open_plain(
    taken: Taken, receipt_key: bytes, expected: Expected, *, gateway: bytes, caller: bytes, payload: bytes
) -> Answer:
    """A plain answer, checked. Raises `ReceiptRefused`."""
    receipt = checked_receipt(
        taken, receipt_key, expected, gateway=gateway, kind=Kind.PLAIN, caller=caller, payload=payload
    )
    words = b"" if receipt.refused else taken.answer
    return Answer(Prompt(words), receipt.finish, receipt)


def refused(receipt: Receipt, taken: Taken) -> Answer:
    """A sealed request that was refused. Raises `AnswerRefused` if there are words all the same."""
    if taken.answer:
        raise AnswerRefused("refused", expected="no words with a refusal", got=f"{len(taken.answer)} bytes")
    return Answer(Prompt(b""), receipt.finish, receipt)


def check_opening(receipt: Receipt, opening: Opening, *, tokens_in: int, tokens_out: int) -> None:
    """answer.md A20, A21: the commitment opens to what the answer said of itself; the sizes are the billed ones."""
    opening.check(receipt.outcome)
    if (receipt.tokens_in, receipt.tokens_out) != (tokens_in, tokens_out):
        raise ReceiptRefused(
            "tokens",
            expected=f"{tokens_in} in, {tokens_out} out",
            got=f"{receipt.tokens_in} in, {receipt.tokens_out} out",
        )


def _signed(taken: Taken, receipt_key: bytes) -> Receipt:
    signed = SignedReceipt.of(taken.receipt, taken.signature, receipt_key)
    signed.verify(receipt_key)
    return signed.receipt


def _check_cell(receipt: Receipt, expected: Expected) -> None:
    for name in _COMPARED:
        wanted, got = getattr(expected, name), getattr(receipt.by, name)
        if wanted is not None and wanted != got:
            raise ReceiptRefused(
                f"by.{name.replace('_', '-')}",
                expected="the one that was expected",
                got=f"{shown(got)} instead of {shown(wanted)}",
            )
    if expected.heights is not None and receipt.height not in expected.heights:  # answer.md A24
        raise ReceiptRefused(
            "heights", expected=f"{expected.heights} from release {receipt.by.release}", got=f"block {receipt.height}"
        )
    price = expected.price
    if price is None:
        return
    if not hmac.compare_digest(price.digest, receipt.price):
        raise ReceiptRefused(
            "price", expected="the price that was expected", got=f"a price of digest {receipt.price.hex()}"
        )
    if receipt.cycles != price.cycles(receipt.tokens_in, receipt.tokens_out):
        raise ReceiptRefused("cycles", expected="the sum of the price", got=receipt.cycles)
