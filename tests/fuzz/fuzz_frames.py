"""Invariant: a reader of frames refuses or reads; what it read to its end is the one answer there is.

The input is two things: which of an answer's frames come in which order, and bytes that are laid over them.
"""

from __future__ import annotations

from attestation.receipts.outcome import Finish, Outcome, answer_digest
from attestation.sealed.errors import AnswerRefused
from attestation.sealed.frames import FRAME_BYTES, AnswerKeys, FrameReader, FrameWriter, split
from foundation.secrecy import Secret

KEYS = AnswerKeys(Secret(b"\x21" * 32), b"\x22" * 32)
WORDS = [b"%d " % number for number in range(40)]


def _frames() -> list[bytes]:
    writer = FrameWriter(KEYS)
    said = [frame for words in WORDS if (frame := writer.feed(words)) is not None]
    outcome = Outcome(Finish.STOP, 3, len(WORDS), answer_digest(WORDS), bytes(32))
    return said + writer.end(outcome)[1]


FRAMES = _frames()
PLAIN = [
    KEYS.cipher.decrypt(bytes([0, 0, 0, n == len(FRAMES) - 1]) + n.to_bytes(8, "big"), frame, None)
    for n, frame in enumerate(FRAMES)
]
SEEDS: list[bytes] = [
    bytes(range(len(FRAMES))),
    bytes(reversed(range(len(FRAMES)))),
    b"\x00\x01\x80\x05hello",
    b"",
    *PLAIN,
]


def one_input(data: bytes) -> None:
    _order(data)
    _content(data)
    try:
        frames = list(split(data))
    except AnswerRefused:
        return
    _expect(b"".join(frames) == data, "frames that are not the answer")


def _order(data: bytes) -> None:
    """Each byte is the next frame; the high bit flips a bit of it."""
    chosen = [(byte & 0x7F) % len(FRAMES) for byte in data[:16]]
    frames = [
        bytes([FRAMES[number][0] ^ 1]) + FRAMES[number][1:] if byte & 0x80 else FRAMES[number]
        for number, byte in zip(chosen, data, strict=False)
    ]
    reader = FrameReader(KEYS)
    try:
        words = b"".join(map(reader.feed, frames))
        reader.end()
    except AnswerRefused:
        return
    _expect(frames == FRAMES and words == b"".join(WORDS), "another answer was read to its end")


def _content(data: bytes) -> None:
    """What a cell might seal instead of words: refused, or padded as it has to be."""
    plain = data[: FRAME_BYTES - 16].ljust(FRAME_BYTES - 16, b"\0")
    for last in (0, 1):
        reader = FrameReader(KEYS)
        try:
            words = reader.feed(KEYS.cipher.encrypt(bytes([0, 0, 0, last]) + bytes(8), plain, None))
            _expect(last == 1 or plain == (len(words).to_bytes(2, "big") + words).ljust(len(plain), b"\0"), "padding")
            reader.end()
        except AnswerRefused:
            continue
        _expect(False, "one frame was an answer")


def _expect(held: bool, broken: str) -> None:
    if not held:
        raise AssertionError(broken)
