"""What came of a request, and the commitment that stands for it in a receipt.

A receipt is public, a sealed answer is not: how long it really was, how it ended and what its words hash to would
tell. So the receipt holds a commitment to the five values, and whoever is told them and the salt can open it
(docs/spec/receipt.md T12 to T14).

    outcome    = [finish / code, tokens in, tokens out, output digest, trace digest]
    commitment = SHA-256(tag || salt || dCBOR(outcome))

A plain request's salt is zero: its words are public, so anyone may check.
"""

from __future__ import annotations

import hmac
import re
from collections.abc import Iterable
from dataclasses import dataclass
from enum import IntEnum, unique
from typing import Final, NewType, Self

from attestation.receipts.errors import ReceiptRefused
from attestation.receipts.price import TOKENS_MAX
from attestation.receipts.seeds import NO_SALT, Salt
from foundation import cbor
from foundation.digests import DIGEST_BYTES, tagged_sha256
from foundation.refusal import shape, shown
from foundation.sized import Digest32

AnswerDigest = NewType("AnswerDigest", Digest32)
"""Of the bytes said."""
TraceDigest = NewType("TraceDigest", Digest32)
OutcomeCommitment = NewType("OutcomeCommitment", Digest32)

OUTCOME_TAG: Final = "anchorhold/outcome/v1"
ANSWER_TAG: Final = "anchorhold/answer/v1"
NO_TRACE: Final = TraceDigest(Digest32(bytes(DIGEST_BYTES)))
OPENING_BYTES_MAX: Final = 512
CODE: Final = re.compile(r"[a-z0-9]+(?:[.-][a-z0-9]+)*")
CODE_CHARACTERS_MAX: Final = 64
_LIMITS: Final = cbor.Limits(bytes_max=OPENING_BYTES_MAX, depth_max=1, items_max=8)


@unique
class Finish(IntEnum):
    """Why an answer ended. `SEALED` stands in a body where the real reason is the client's to know."""

    STOP = 0  # the engine had no more to say
    LENGTH = 1  # it has said as many tokens as the request allows
    TOOL_CALLS = 2  # it asks for tools to be called
    SEALED = 255


def answer_digest(parts: Iterable[bytes]) -> AnswerDigest:
    """Of the bytes said, joined: a plain answer's words, a sealed one's frames; also of the words inside those."""
    return AnswerDigest(tagged_sha256(ANSWER_TAG, *parts))


NO_ANSWER: Final = answer_digest(())


@dataclass(frozen=True, slots=True)
class Outcome:
    """The true finish, counts and digests of an answer; or the code of a refusal, which has no answer."""

    finish: Finish | str
    tokens_in: int
    tokens_out: int
    output: AnswerDigest
    trace: TraceDigest

    def __post_init__(self) -> None:
        if self.finish is Finish.SEALED:
            raise ReceiptRefused("outcome", expected="the reason an answer ended", got=self.finish.name)
        checked_finish(self.finish)
        for count in (self.tokens_in, self.tokens_out):
            checked_count(count)
        for digest in (self.output, self.trace):
            checked_digest(digest)
        rest = (self.tokens_in, self.tokens_out, self.output, self.trace)
        if isinstance(self.finish, str) and rest != (0, 0, NO_ANSWER, NO_TRACE):
            raise ReceiptRefused(
                "outcome",
                expected="a refusal without tokens, output or trace",
                got="a refusal with tokens, output or trace",
            )

    @classmethod
    def refusal(cls, code: str) -> Self:
        """What came of a request that cannot be answered."""
        return cls(code, 0, 0, NO_ANSWER, NO_TRACE)

    def encode(self) -> bytes:
        return cbor.encode([finish_word(self.finish), self.tokens_in, self.tokens_out, self.output, self.trace])

    def commitment(self, salt: Salt = NO_SALT) -> OutcomeCommitment:
        return OutcomeCommitment(tagged_sha256(OUTCOME_TAG, checked_digest(salt), self.encode()))


@dataclass(frozen=True, slots=True)
class Opening:
    """An outcome and the salt of its commitment: what a client is told inside a sealed answer's last part."""

    salt: Salt
    outcome: Outcome

    def encode(self) -> bytes:
        of = self.outcome
        return cbor.encode([self.salt, finish_word(of.finish), of.tokens_in, of.tokens_out, of.output, of.trace])

    @classmethod
    def parse(cls, raw: bytes) -> Self:
        """Raises `ReceiptRefused`, nothing else."""
        value = cbor.decode_or(ReceiptRefused, "opening", raw, _LIMITS)
        match value:
            case [bytes(salt), int() | str() as finish, int(tokens_in), int(tokens_out), bytes(output), bytes(trace)]:
                said, traced = AnswerDigest(checked_digest(output)), TraceDigest(checked_digest(trace))
                outcome = Outcome(read_finish(finish), tokens_in, tokens_out, said, traced)
                opening = cls(Salt(checked_digest(salt)), outcome)
            case _:
                raise ReceiptRefused("opening", expected="[salt, finish, in, out, output, trace]", got=shape(value))
        if opening.encode() != raw:  # true and false count as numbers to Python, not to the encoding
            raise ReceiptRefused("opening", expected="numbers where they belong", got="booleans among the numbers")
        return opening

    def check(self, commitment: OutcomeCommitment) -> None:
        """Raises `ReceiptRefused` if this is not what was committed to."""
        if not hmac.compare_digest(self.outcome.commitment(self.salt), commitment):
            raise ReceiptRefused(
                "outcome", expected="the outcome that was committed to", got=self.outcome.commitment(self.salt).hex()
            )


# --- shared with the body


def finish_word(finish: Finish | str) -> int | str:
    """As it is encoded: a number for an answer, a code for a refusal."""
    return finish if isinstance(finish, str) else int(finish)


def read_finish(value: int | str) -> Finish | str:
    if isinstance(value, str):
        return checked_finish(value)
    try:
        return Finish(value)
    except ValueError:
        raise ReceiptRefused("finish", expected="a known reason", got=value) from None


def checked_finish(finish: Finish | str) -> Finish | str:
    if isinstance(finish, str) and (len(finish) > CODE_CHARACTERS_MAX or CODE.fullmatch(finish) is None):
        raise ReceiptRefused("finish", expected="a code in small letters, digits, dots and dashes", got=shown(finish))
    return finish


def checked_count(count: int) -> int:
    if type(count) is not int or not 0 <= count <= TOKENS_MAX:
        raise ReceiptRefused("tokens", expected=f"0 to {TOKENS_MAX}", got=str(count)[:40])
    return count


def checked_digest(raw: bytes) -> Digest32:
    if type(raw) is not bytes or len(raw) != DIGEST_BYTES:
        got = f"{len(raw)} bytes" if type(raw) is bytes else type(raw).__name__
        raise ReceiptRefused("digest", expected=f"{DIGEST_BYTES} bytes", got=got)
    return Digest32(raw)
