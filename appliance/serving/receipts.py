"""The cell's receipts: one signed body per request, in order, and a checkpoint over all of them after each block.

`ReceiptBook` holds the boot's receipt key, the last body of the block and the right edge of the log's tree: a few
hundred bytes, however long the cell serves. It writes down what the cell observed; what it is told is what ran: the
ordered request (whose digest the sequencer hashed from what it released) and the `Conclusion` of running it. Nothing
of either is put into a log or an error.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final, Self

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from appliance.ordering.sequencer import OrderedRequest
from attestation.consensus.blocks import Kind
from attestation.receipts.body import Receipt, ReceiptDigest, ServedBy, body_digest, first_previous
from attestation.receipts.checkpoint import Checkpoint, origin_of
from attestation.receipts.outcome import NO_ANSWER, AnswerDigest, Finish, Outcome
from attestation.receipts.price import PriceSchedule
from attestation.receipts.seeds import NO_SALT, Salt, Seed, SeedPolicy, seed_commitment
from attestation.receipts.signed_receipt import sign
from foundation import merkle
from measurements.digests import ConfigurationDigest


@dataclass(frozen=True, slots=True)
class Conclusion:
    """What running one request came to. Its values are secrets of the client's where the request was sealed."""

    outcome: Outcome = field(repr=False)
    answer: AnswerDigest = field(repr=False)  # answer_digest of the bytes that left: words, or sealed frames
    seed_policy: SeedPolicy
    seed: Seed = field(repr=False)
    salt: Salt = field(repr=False)
    tokens_in: int  # as the receipt shows them: exact, or the bucket's
    tokens_out: int
    sealed: bool

    @classmethod
    def plain(cls, outcome: Outcome, policy: SeedPolicy, seed: Seed) -> Self:
        """The words are public: they are the answer, and everything about them is in the clear."""
        return cls(outcome, outcome.output, policy, seed, NO_SALT, outcome.tokens_in, outcome.tokens_out, False)

    @classmethod
    def sealed_answer(
        cls,
        outcome: Outcome,
        answer: AnswerDigest,
        policy: SeedPolicy,
        seed: Seed,
        *,
        salt: Salt,
        tokens_in: int,
        tokens_out: int,
    ) -> Self:
        """`tokens_in` and `tokens_out` are the bucket's, which the padded sizes tell anyway."""
        return cls(outcome, answer, policy, seed, salt, tokens_in, tokens_out, True)

    @classmethod
    def refusal(cls, code: str, seed: Seed, *, sealed: bool) -> Self:
        """T6: a request that cannot be answered. `seed` is the beacon's, of either kind of request."""
        return cls(Outcome.refusal(code), NO_ANSWER, SeedPolicy.BEACON, seed, NO_SALT, 0, 0, sealed)

    @property
    def finish(self) -> Finish | str:
        """As the receipt shows it."""
        if isinstance(self.outcome.finish, str):
            return self.outcome.finish
        return Finish.SEALED if self.sealed else self.outcome.finish

    @property
    def seed_salt(self) -> Salt:
        """T15: the beacon's seed is public; a number the client fixed may be small enough to guess."""
        return self.salt if self.seed_policy is SeedPolicy.CLIENT else NO_SALT


@dataclass(frozen=True, slots=True)
class Issued:
    """One receipt: the body every cell has, and the same under this cell's signature."""

    receipt: Receipt
    body: bytes
    signed: bytes


class ReceiptBook:
    """One boot's receipts. Not for two threads at once: requests are concluded one at a time."""

    def __init__(self, key: Ed25519PrivateKey, by: ServedBy, gateway: bytes, price: PriceSchedule) -> None:
        self._key: Final = key
        self._raw_key: Final = key.public_key().public_bytes_raw()
        self._by: Final = by
        self._gateway: Final = gateway
        self._price: Final = price
        self._tree: Final = merkle.Frontier()
        self._place: tuple[int, int] | None = None  # of the last request that has its receipt
        self._previous: ReceiptDigest | None = None

    @property
    def config(self) -> ConfigurationDigest:
        """The digest of the measured configuration that every receipt names."""
        return self._by.config

    @property
    def origin(self) -> str:
        return origin_of(self._raw_key)

    @property
    def size(self) -> int:
        """How many receipts there are."""
        return self._tree.size

    def issue(self, request: OrderedRequest, said: Conclusion) -> Issued:
        """The receipt of the request that stands next in the order; the log has it from now on."""
        self._check_next(request)
        if said.sealed is not (request.kind is Kind.SEALED):
            raise AssertionError("a conclusion of the other kind of request")
        previous = first_previous(request.link) if request.index == 0 or self._previous is None else self._previous
        receipt = Receipt(
            by=self._by,
            gateway=self._gateway,
            height=request.height,
            index=request.index,
            id=request.id,
            kind=request.kind,
            request=request.request_digest,
            seed_policy=said.seed_policy,
            seed=seed_commitment(said.seed, said.seed_salt),
            answer=said.answer,
            outcome=said.outcome.commitment(said.salt),
            finish=said.finish,
            tokens_in=said.tokens_in,
            tokens_out=said.tokens_out,
            price=self._price.digest,
            cycles=self._price.cycles(said.tokens_in, said.tokens_out),
            previous=previous,
        )
        body = receipt.encode()
        signed = sign(body, self._key, self._raw_key)
        self._tree.add(merkle.leaf(body))
        self._place, self._previous = receipt.place, body_digest(body)
        return Issued(receipt, body, signed)

    def checkpoint(self) -> bytes:
        """A note over every receipt so far. For after a block's last; nothing is signed twice differently."""
        return Checkpoint(self.origin, self._tree.size, self._tree.root).signed(self._key, self._raw_key)

    def _check_next(self, request: OrderedRequest) -> None:
        """A receipt out of order would be a lie of ours: the cell ends instead."""
        place = (request.height, request.index)
        if self._place is None:
            fits = request.index == 0
        else:
            height, index = self._place
            fits = place in ((height, index + 1), (height + 1, 0))
        if not fits:
            raise AssertionError(f"a receipt for {place} behind {self._place}")
