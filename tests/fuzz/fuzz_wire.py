"""Invariant: only RemoteProtocolError escapes Decoder.feed, where the bytes are cut changes nothing, and no more is
held than one frame can be."""

from __future__ import annotations

from vsock_bridge.codec import HEADER_BYTES, Decoder, checksum, encode
from vsock_bridge.errors import Code, RemoteProtocolError
from vsock_bridge.limits import FRAME_BYTES_MAX
from vsock_bridge.messages import Ack, Bye, Cancel, Credit, Data, Error, Hello, Mark, Message, Open, Ping


def one_input(data: bytes) -> None:
    """The first byte says whether checksums are put right, so that bodies are reached, and where to cut."""
    if not data:
        return
    stream = repaired(data[1:]) if data[0] & 1 else data[1:]
    whole = heard([stream])
    size = (data[0] >> 1) + 1
    assert heard([stream[at : at + size] for at in range(0, len(stream), size)]) == whole
    messages, _ = whole
    assert (
        b"".join(encode(message, counter) for counter, message in enumerate(messages))
        == stream[: sum(len(encode(message, counter)) for counter, message in enumerate(messages))]
    )


def heard(pieces: list[bytes]) -> tuple[list[Message], Code | None]:
    decoder = Decoder()
    messages: list[Message] = []
    try:
        for piece in pieces:
            messages.extend(decoder.feed(piece))
            assert decoder.held_bytes <= FRAME_BYTES_MAX
    except RemoteProtocolError as refusal:
        return messages, refusal.code
    return messages, None


def repaired(stream: bytes) -> bytes:
    """`stream` with the checksum of every whole frame made right."""
    out = bytearray(stream)
    at = counter = 0
    while at + HEADER_BYTES <= len(out):
        end = at + HEADER_BYTES + int.from_bytes(out[at + 1 : at + 4], "big")
        if end > len(out):
            break
        crc = checksum(counter, bytes(out[at : at + 4]), bytes(out[at + HEADER_BYTES : end]))
        out[at + 4 : at + HEADER_BYTES] = crc.to_bytes(4, "big")
        at, counter = end, counter + 1
    return bytes(out)


_MESSAGES: list[Message] = [
    Hello(1, 1, b"i" * 16),
    Open(1, b"n" * 16, 0, 3 << 20),
    Data(1, 0, 1, Mark.END, b"what is the time?"),
    Data(1, 300, 2**40, Mark.MORE, bytes(300)),
    Credit(1, 70_000),
    Ack(1, 1),
    Cancel(1, 1),
    Ping(7, False),
    Error(0, Code.BUSY, "expected a free place, got none"),
    Bye(),
]
SEEDS = [
    b"\x01" + b"".join(encode(message, counter) for counter, message in enumerate(_MESSAGES)),
    *(bytes([number]) + encode(message, 0) for number, message in enumerate(_MESSAGES)),
    b"\x01\x03\x04\x00\x30\x00\x00\x00\x00",
    b"",
]
