"""A request on its way: sealed to a service key that a broker vouches for, with the key its answer will need."""

from __future__ import annotations

import secrets
from dataclasses import dataclass, field
from typing import ClassVar, Final, Self

from anchorhold.client.answer import Answer, Expected, Taken, check_opening, checked_receipt, refused
from anchorhold.client.hand_over import HandedOver
from attestation.consensus.blocks import PAYLOAD_BYTES_MAX, PRINCIPAL_BYTES_MAX, Kind, Request
from attestation.consensus.chat import ChatRequest, Sampling, SystemMessage, UserMessage
from attestation.receipts.outcome import checked_digest
from attestation.sealed.buckets import billed_in, request_bytes
from attestation.sealed.errors import AnswerRefused, KeysRefused
from attestation.sealed.frames import AnswerKeys, FrameReader, split
from attestation.sealed.request import LENGTH_BYTES, REPLY_KEY_BYTES, Mode, Place, Unsealed, seal
from attestation.sealed.ring import Offer
from attestation.sealed.suites import Randomness, SealingKey
from foundation import cbor
from foundation.refusal import shown
from foundation.secrecy import Prompt, Secret
from foundation.sized import DIGEST_BYTES, Digest32
from measurements.digests import ConfigurationDigest, ModelRoot

QUESTION_BYTES_MAX: Final = PAYLOAD_BYTES_MAX + 512
_LIMITS: Final = cbor.Limits(bytes_max=QUESTION_BYTES_MAX, depth_max=1, items_max=16)


def chat(model: str, words: str, *, system: str | None = None, sampling: Sampling | None = None) -> ChatRequest:
    """One question, perhaps with an instruction before it. Anything richer is a `ChatRequest` of one's own."""
    before = () if system is None else (SystemMessage(Prompt(system.encode())),)
    return ChatRequest(model, (*before, UserMessage(Prompt(words.encode()))), sampling=sampling)


@dataclass(frozen=True, slots=True)
class Service:
    """One service key of one gateway's cells."""

    key: SealingKey
    first: int
    last: int
    place: Place

    @classmethod
    def checked(cls, offer: bytes, broker: bytes, *, gateway: bytes, model_root: bytes) -> Self:
        """Raises `KeysRefused` unless the broker signed it, `ReceiptRefused` for a root of another length.

        Which broker, gateway and model: the caller knows.
        """
        read = Offer.checked(offer, broker)
        return cls(read.key, read.first, read.last, Place(gateway, ModelRoot(checked_digest(model_root))))

    def ask(
        self,
        request: ChatRequest,
        *,
        expiry: int,
        mode: Mode = Mode.WHOLE,
        caller: bytes | None = None,
        randomness: Randomness = secrets.token_bytes,
    ) -> Question:
        """Seal `request`: to be run at no height above `expiry`, and only for `caller` if one is named (A10).

        Raises `KeysRefused` for an expiry that this key does not reach: choose the next key, or a nearer height.
        """
        if not self.first <= expiry <= self.last:
            raise KeysRefused("expiry", expected=f"a height from {self.first} to {self.last}", got=expiry)
        reply_key = Secret(randomness(REPLY_KEY_BYTES))
        inside = Unsealed(Prompt(request.encode()), reply_key, mode, caller)
        payload = seal(inside, self.key, self.place, expiry)
        return Question(payload, reply_key, self.place, len(inside.encode()), inside)


@dataclass(frozen=True, slots=True)
class Question:
    """What was asked, and the key to its answer."""

    VERSION: ClassVar[int] = 1
    payload: bytes = field(repr=False)
    reply_key: Secret
    place: Place
    room: int  # bytes it was padded to
    inside: Unsealed | None = field(default=None, repr=False, compare=False)  # not in what is kept of it

    def hand_over(self) -> Secret:
        """For an auditor of this one request: what was asked and the key to its answer (audit.md U56)."""
        if self.inside is None:
            raise AnswerRefused("hand-over", expected="a question that was just asked", got="a question that was kept")
        return HandedOver(self.payload, self.inside).encode()

    def reader(self, height: int, index: int, number: int, caller: bytes, *, config: bytes) -> FrameReader:
        """For frames as they come, from cells of that measured configuration. Their words are the cell's; that they
        are all says `open`, or the reader's `end`."""
        request = Request(number, caller, Kind.SEALED, Prompt(self.payload)).digest()
        return FrameReader(
            AnswerKeys.derive(
                self.reply_key,
                config=ConfigurationDigest(checked_digest(config)),
                gateway=self.place.gateway,
                height=height,
                index=index,
                number=number,
                request=request,
            )
        )

    def open(self, taken: Taken, receipt_key: bytes, expected: Expected, *, caller: bytes) -> Answer:
        """The whole answer, checked against its receipt. Raises `AnswerRefused` or `ReceiptRefused`."""
        receipt = checked_receipt(
            taken,
            receipt_key,
            expected,
            gateway=self.place.gateway,
            kind=Kind.SEALED,
            caller=caller,
            payload=self.payload,
        )
        if receipt.by.model_root != self.place.model_root:
            raise AnswerRefused("model", expected="the model it was sealed for", got=shown(receipt.by.model_root))
        if receipt.refused:
            return refused(receipt, taken)
        reader = self.reader(taken.height, taken.index, taken.id, caller, config=receipt.by.config)
        words = b"".join(map(reader.feed, split(taken.answer)))
        outcome = reader.end()
        if reader.opening is None:
            raise AssertionError("an answer that ended has its opening")
        check_opening(receipt, reader.opening, tokens_in=billed_in(self.room), tokens_out=reader.rung)
        return Answer(Prompt(words), outcome.finish, receipt, reader.opening)

    def encode(self) -> Secret:
        """To be kept until the answer is there. Whoever reads it reads the answer."""
        return Secret(
            cbor.encode(
                [
                    self.VERSION,
                    self.payload,
                    self.reply_key.reveal(),
                    self.place.gateway,
                    self.place.model_root,
                    self.room,
                ]
            )
        )

    @classmethod
    def parse(cls, raw: Secret) -> Self:
        """Raises `AnswerRefused`, nothing else."""
        try:
            value = cbor.decode(raw.reveal(), _LIMITS)
        except cbor.CborRefused:
            value = None
        match value:
            case [1, bytes(payload), bytes(reply_key), bytes(gateway), bytes(model_root), int(room)] if (
                len(reply_key) == REPLY_KEY_BYTES
                and len(model_root) == DIGEST_BYTES
                and 1 <= len(gateway) <= PRINCIPAL_BYTES_MAX
                and LENGTH_BYTES <= room <= PAYLOAD_BYTES_MAX
                and request_bytes(room) == room
            ):
                question = cls(payload, Secret(reply_key), Place(gateway, ModelRoot(Digest32(model_root))), room)
                if question.encode() == raw:
                    return question
            case _:
                pass
        raise AnswerRefused(
            "question", expected="a question that was kept", got=f"{len(raw.lend())} bytes of another form"
        )
