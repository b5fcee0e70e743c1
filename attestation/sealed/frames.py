"""A sealed answer: frames of one size under keys that only the client and the cells can derive.

    keys      HKDF-SHA256(reply key, info = dCBOR [tag, configuration, gateway, height, index, id, request digest]):
              32 bytes for AES-256-GCM-SIV, 32 bytes of salt for the outcome in the receipt
    frame     AES-256-GCM-SIV(key, nonce = 0 0 0, last, number u64be, no AAD) of
              length u16be, that many bytes, zeros up to 130
    answer    frames of words, frames of nothing up to the rung, and one last frame: the opening of the outcome

A key is for one request at one position under one measured configuration, and every nonce under it names its frame and
whether it is the last: a frame that is missing, moved, repeated or of another answer does not open. Nothing is random,
so N cells make the same bytes; two that diverge show no more than which frames differ (docs/spec/answer.md A14 to A21).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.ciphers.aead import AESGCMSIV
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from attestation.consensus.blocks import RequestDigest
from attestation.receipts.errors import ReceiptRefused
from attestation.receipts.outcome import Opening, Outcome, answer_digest
from attestation.receipts.seeds import Salt
from attestation.sealed.buckets import RUNGS, STEP, answer_frames, rung_of_frames
from attestation.sealed.errors import AnswerRefused
from foundation import cbor
from foundation.secrecy import Secret
from foundation.sized import digest32
from measurements.digests import ConfigurationDigest

ANSWER_KEY_TAG: Final = "anchorhold/answer-key/v2"
KEY_BYTES: Final = 32
SALT_BYTES: Final = 32
LENGTH_BYTES: Final = 2
ROOM_BYTES: Final = 8 * STEP  # of words in a frame: eight bytes for each of its tokens
PLAIN_BYTES: Final = LENGTH_BYTES + ROOM_BYTES
FRAME_BYTES: Final = PLAIN_BYTES + 16
FRAMES_MAX: Final = answer_frames(RUNGS[-1])
_ORDINARY, _LAST = b"\0\0\0\0", b"\0\0\0\1"
_EMPTY: Final = bytes(PLAIN_BYTES)


@dataclass(frozen=True)
class AnswerKeys:
    """The keys of one answer."""

    key: Secret
    salt: Salt = field(repr=False)

    @classmethod
    def derive(
        cls,
        reply_key: Secret,
        *,
        config: ConfigurationDigest,
        gateway: bytes,
        height: int,
        index: int,
        number: int,
        request: RequestDigest,
    ) -> AnswerKeys:
        """`config` is the digest of the measured configuration that answers, as receipts name it (receipt.md T3);
        `number` the request's id, `request` its digest as it was ordered."""
        info = cbor.encode([ANSWER_KEY_TAG, config, gateway, height, index, number, request])
        derivation = HKDF(hashes.SHA256(), KEY_BYTES + SALT_BYTES, salt=None, info=info)
        okm = Secret.filled(KEY_BYTES + SALT_BYTES, lambda into: derivation.derive_into(reply_key.lend(), into))
        return cls(Secret(okm.lend()[:KEY_BYTES]), Salt(digest32(bytes(okm.lend()[KEY_BYTES:]))))

    @cached_property
    def cipher(self) -> AESGCMSIV:
        return AESGCMSIV(self.key.lend())


def _nonce(number: int, *, last: bool) -> bytes:
    return (_LAST if last else _ORDINARY) + number.to_bytes(8, "big")


class FrameWriter:
    """Words in, a token at a time; frames out, when their number of tokens is there and never else (A17)."""

    def __init__(self, keys: AnswerKeys) -> None:
        self._keys: Final = keys
        self._waiting = bytearray()
        self._tokens = 0
        self._frames = 0

    def feed(self, words: bytes) -> bytes | None:
        """The words one more token adds, perhaps none; a frame after every sixteenth."""
        self._waiting += words
        self._tokens += 1
        return None if self._tokens % STEP else self._frame()

    def hear_rest(self, words: bytes) -> None:
        """Words that came out with the end and no token of their own."""
        self._waiting += words

    def end(self, outcome: Outcome) -> tuple[int, list[bytes]]:
        """The rung, and the frames that are left: words, nothing, and the last one."""
        frames = []
        if self._tokens % STEP:
            frames.append(self._frame())
        while self._waiting:
            frames.append(self._frame())
        rung = rung_of_frames(self._frames)
        while self._frames < answer_frames(rung) - 1:
            frames.append(self._frame())
        frames.append(self._sealed(Opening(self._keys.salt, outcome).encode(), last=True))
        return rung, frames

    def _frame(self) -> bytes:
        words = bytes(self._waiting[:ROOM_BYTES])
        del self._waiting[:ROOM_BYTES]
        return self._sealed(words, last=False)

    def _sealed(self, words: bytes, *, last: bool) -> bytes:
        plain = (len(words).to_bytes(LENGTH_BYTES, "big") + words).ljust(PLAIN_BYTES, b"\0") if words else _EMPTY
        nonce = _nonce(self._frames, last=last)
        self._frames += 1
        return self._keys.cipher.encrypt(nonce, plain, None)


class FrameReader:
    """For the client: frames in, words out, and at the end what the receipt commits to. Raises `AnswerRefused`.

    Words are authentic as soon as they come out, but that they are all is known only when `end` returns.
    """

    def __init__(self, keys: AnswerKeys) -> None:
        self._keys: Final = keys
        self._frames: Final[list[bytes]] = []
        self._words: Final[list[bytes]] = []
        self._opening: Opening | None = None

    def feed(self, frame: bytes) -> bytes:
        """The words of the next frame; none out of padding and the last one."""
        if self._opening is not None:
            raise AnswerRefused("after-end", expected="no frame after the last", got=f"{len(frame)} bytes more")
        if len(self._frames) == FRAMES_MAX:
            raise AnswerRefused("frames", expected=f"at most {FRAMES_MAX}", got=f"frame {len(self._frames) + 1}")
        if len(frame) != FRAME_BYTES:
            raise AnswerRefused("frame-size", expected=f"{FRAME_BYTES} bytes", got=len(frame))
        last, words = self._opened(frame)
        self._frames.append(frame)
        if last:
            self._opening = _opening(words, self._keys.salt)
            return b""
        self._words.append(words)
        return words

    def _opened(self, frame: bytes) -> tuple[bool, bytes]:
        for last in (False, True):
            try:
                plain = self._keys.cipher.decrypt(_nonce(len(self._frames), last=last), frame, None)
            except InvalidTag:
                continue
            return last, _words(plain)
        raise AnswerRefused(
            "frame",
            expected=f"frame {len(self._frames)} of this answer",
            got=f"{len(frame)} bytes that do not open as it",
        )

    def end(self) -> Outcome:
        """What the cell says came of the request. Refuses an answer that was cut off."""
        opening = self._opening
        if opening is None:
            raise AnswerRefused("truncated", expected="a last frame", got=f"{len(self._frames)} frames and no end")
        content = len(self._frames) - 1
        if rung_of_frames(content) != content * STEP or opening.outcome.tokens_out > content * STEP:
            raise AnswerRefused("rung", expected="as many frames as its rung has", got=len(self._frames))
        if answer_digest(self._words) != opening.outcome.output:
            raise AnswerRefused(
                "output", expected="the words the cell says it said", got=f"{len(self._words)} bytes of another digest"
            )
        return opening.outcome

    @property
    def opening(self) -> Opening | None:
        """The outcome with its salt, once the last frame was heard: what an auditor may be shown."""
        return self._opening

    @property
    def rung(self) -> int:
        """What the answer is billed as."""
        return (len(self._frames) - 1) * STEP

    @property
    def digest(self) -> bytes:
        """Of the frames: what stands in the receipt."""
        return answer_digest(self._frames)


def split(answer: bytes) -> Iterator[bytes]:
    """The frames of an answer that came as one."""
    if len(answer) % FRAME_BYTES:
        raise AnswerRefused("frame-size", expected=f"a multiple of {FRAME_BYTES} bytes", got=len(answer))
    for start in range(0, len(answer), FRAME_BYTES):
        yield answer[start : start + FRAME_BYTES]


def _words(plain: bytes) -> bytes:
    length = int.from_bytes(plain[:LENGTH_BYTES], "big")
    end = LENGTH_BYTES + length
    if length > ROOM_BYTES or plain.count(0, end) != PLAIN_BYTES - end:
        raise AnswerRefused(
            "padding", expected="words and then zeros", got=f"{length} bytes of words, or a byte set after them"
        )
    return plain[LENGTH_BYTES:end]


def _opening(raw: bytes, salt: Salt) -> Opening:
    try:
        opening = Opening.parse(raw)
    except ReceiptRefused:
        raise AnswerRefused("outcome", expected="an outcome", got=f"{len(raw)} bytes of another form") from None
    if opening.salt != salt or isinstance(opening.outcome.finish, str):
        raise AnswerRefused(
            "outcome",
            expected="an answer's, under this answer's salt",
            got="an outcome that this salt does not open" if opening.salt != salt else "a refusal",
        )
    return opening
