"""Receipts for tests: what one cell would write about a few requests, under a key that follows from a name."""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import sha256

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from appliance.ordering.sequencer import OrderedRequest
from appliance.serving.receipts import Conclusion, Issued, ReceiptBook
from attestation.consensus.blocks import Kind
from attestation.receipts.body import ServedBy
from attestation.receipts.outcome import Finish, Outcome, answer_digest
from attestation.receipts.price import PriceSchedule
from attestation.receipts.seeds import SeedPolicy, beacon_seed
from foundation.secrecy import Prompt

GATEWAY = bytes.fromhex("00000000fff000050101")
PRICE = PriceSchedule(request=1_000_000, token_in=2_000, token_out=10_000)
SERVED_BY = ServedBy(
    "devnet", bytes(32), b"\xc0" * 32, b"\x30" * 32, b"\x31" * 32, b"\x32" * 32, b"\xe0" * 32, b"\xe1" * 32
)


def receipt_key(name: str) -> Ed25519PrivateKey:
    return Ed25519PrivateKey.from_private_bytes(sha256(name.encode()).digest())


def raw(key: Ed25519PrivateKey) -> bytes:
    return key.public_key().public_bytes_raw()


def book(name: str = "cell a", by: ServedBy = SERVED_BY, price: PriceSchedule = PRICE) -> ReceiptBook:
    return ReceiptBook(receipt_key(name), by, GATEWAY, price)


def ordered(height: int, index: int, number: int, kind: Kind = Kind.PLAIN) -> OrderedRequest:
    return OrderedRequest(
        height=height,
        index=index,
        id=number,
        caller=b"\x04",
        kind=kind,
        payload=Prompt(b"%d" % number),
        beacon=b"\x07" * 32,
        link=sha256(b"block %d" % height).digest(),
        request_digest=sha256(b"request %d" % number).digest(),
        block_time_ns=1,
        certified_time_ns=2,
    )


def plain(request: OrderedRequest, words: bytes = b"..", tokens: tuple[int, int] = (12, 7)) -> Conclusion:
    outcome = Outcome(Finish.STOP, *tokens, answer_digest((words,)), sha256(words).digest())
    return Conclusion.plain(outcome, SeedPolicy.BEACON, beacon_seed(request.beacon, request.id))


def sealed(request: OrderedRequest, salt: bytes = b"\x5a" * 32) -> Conclusion:
    outcome = Outcome(Finish.LENGTH, 12, 7, answer_digest((b"hidden words",)), sha256(b"trace").digest())
    frames = answer_digest((b"frame 0", b"frame 1"))
    seed = beacon_seed(request.beacon, request.id)
    return Conclusion.sealed_answer(outcome, frames, SeedPolicy.BEACON, seed, salt=salt, tokens_in=16, tokens_out=16)


def refused(request: OrderedRequest, code: str = "chat.model") -> Conclusion:
    is_sealed = request.kind is Kind.SEALED
    return Conclusion.refusal(code, beacon_seed(request.beacon, request.id), sealed=is_sealed)


def issue_blocks(of: ReceiptBook, sizes: Sequence[int], *, from_height: int = 1, first_id: int = 0) -> list[Issued]:
    """A plain answer for every request of blocks of these sizes."""
    issued, number = [], first_id
    for offset, size in enumerate(sizes):
        for index in range(size):
            request = ordered(from_height + offset, index, number)
            issued.append(of.issue(request, plain(request, b"answer %d" % number)))
            number += 1
    return issued
