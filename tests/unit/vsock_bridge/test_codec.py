"""Frames: one encoding each, any cut gives the same messages, anything else is refused and nothing is kept."""

from __future__ import annotations

import msgpack
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.vsock_bridge.strategies import MESSAGES, pieces
from vsock_bridge.codec import BODY_BYTES_MAX, HEADER_BYTES, Decoder, checksum, encode
from vsock_bridge.errors import Code, RemoteProtocolError
from vsock_bridge.limits import FRAME_BYTES_MAX, PAYLOAD_BYTES_MAX, SEQUENCE_MAX
from vsock_bridge.messages import Ack, Bye, Data, Error, Hello, Kind, Mark, Message, Open, Ping

SAMPLES: list[Message] = [
    Hello(1, 1, b"i" * 16),
    Open(1, b"n" * 16, 0, 3 << 20),
    Data(1, 0, 1, Mark.END, b"what is the time?"),
    Ack(1, 1),
    Ping(7, False),
    Error(0, Code.BUSY, "expected a free place, got none"),
    Bye(),
]


def frame(kind: int, body: bytes, counter: int = 0, length: int | None = None) -> bytes:
    """A frame with a right checksum around any body."""
    word = (kind << 24 | (len(body) if length is None else length)).to_bytes(4, "big")
    return word + checksum(counter, word, body).to_bytes(4, "big") + body


def encoded(messages: list[Message]) -> list[bytes]:
    return [encode(message, counter) for counter, message in enumerate(messages)]


def refusal(data: bytes) -> RemoteProtocolError:
    with pytest.raises(RemoteProtocolError) as caught:
        list(Decoder().feed(data))
    return caught.value


@given(st.lists(MESSAGES, max_size=6))
@settings(deadline=None)
def test_decoding_an_encoding_is_identity(messages: list[Message]) -> None:
    # wire.md W2
    assert list(Decoder().feed(b"".join(encoded(messages)))) == messages


@given(st.lists(MESSAGES, min_size=1, max_size=5), st.lists(st.integers(0, 1 << 20), max_size=12))
@settings(deadline=None)
def test_where_the_stream_is_cut_changes_nothing(messages: list[Message], cuts: list[int]) -> None:
    decoder = Decoder()
    got = [message for piece in pieces(b"".join(encoded(messages)), cuts) for message in decoder.feed(piece)]
    assert got == messages
    assert decoder.held_bytes == 0


def test_byte_at_a_time_equals_all_at_once() -> None:
    decoder = Decoder()
    stream = b"".join(encoded(SAMPLES))
    assert [message for byte in stream for message in decoder.feed(bytes([byte]))] == SAMPLES
    assert list(Decoder().feed(stream)) == SAMPLES


@pytest.mark.parametrize("sample", SAMPLES, ids=lambda sample: type(sample).__name__)
def test_every_flipped_bit_of_a_frame_is_refused(sample: Message) -> None:
    """W5: by the checksum, or from the header before it. A longer length waits for bytes that are not this frame's."""
    good = encode(sample, 0)
    for bit in range(8 * len(good)):
        bad = bytearray(good)
        bad[bit // 8] ^= 1 << bit % 8
        decoder = Decoder()
        messages: list[Message] = []
        code = None
        try:
            messages.extend(decoder.feed(bytes(bad) + good))
        except RemoteProtocolError as reason:
            code = reason.code
        assert messages == [], bit
        assert code in {Code.CHECKSUM, Code.UNKNOWN_KIND, Code.OVERSIZED} or (code is None and 8 <= bit < 32), bit
        assert decoder.held_bytes <= HEADER_BYTES + BODY_BYTES_MAX[Kind.DATA]


@given(st.lists(MESSAGES, min_size=2, max_size=5), st.data())
@settings(deadline=None)
def test_a_repeated_lost_or_moved_frame_is_refused(messages: list[Message], data: st.DataObject) -> None:
    # wire.md W5
    frames = encoded(messages)
    at = data.draw(st.integers(0, len(frames) - 2))
    fault = data.draw(st.sampled_from(["repeat", "lose", "swap"]))
    if fault == "repeat":
        frames.insert(at, frames[at])
    elif fault == "lose":
        del frames[at]
    else:
        frames[at], frames[at + 1] = frames[at + 1], frames[at]
    got: list[Message] = []
    with pytest.raises(RemoteProtocolError) as caught:
        got.extend(Decoder().feed(b"".join(frames)))
    assert caught.value.code is Code.CHECKSUM


@pytest.mark.parametrize(
    "body",
    [
        b"\x92\x01\xcc\x05",  # 5 as two bytes
        b"\x92\x01\xcd\x00\x05",
        b"\xdc\x00\x02\x01\x05",  # an array of two as array16
        b"\x92\xd2\x00\x00\x00\x01\x05",  # 1 as int32
        b"\x92\x01\xcb\x40\x14\x00\x00\x00\x00\x00\x00",  # 5.0
    ],
    ids=["u8", "u16", "array16", "int32", "float"],
)
def test_another_encoding_of_an_ack_is_refused(body: bytes) -> None:
    assert refusal(frame(Kind.ACK, body)).code is Code.MALFORMED


@pytest.mark.parametrize(
    "body",
    [
        b"\x95\x01\x00\x01\x01\xc5\x00\x01x",  # bin16 for one byte
        b"\x95\x01\x00\x01\x01\xc6\x00\x00\x00\x01x",
        b"\x95\x01\x00\xcc\x01\x01\xc4\x01x",  # position 1 as two bytes
        b"\x95\x01\x00\x01\x01\xa1x",  # text instead of bytes
        b"\x95\x01\x00\x01\x04\xc4\x01x",  # no such mark
        b"\x95\x00\x00\x01\x01\xc4\x01x",  # stream 0
        b"\x95\x01\xff\x01\x01\xc4\x01x",  # -1
        b"\x95\x01\x00\x01\xc3\xc4\x01x",  # true for 1
        b"\x94\x01\x00\x01\x01",
        b"\x95\x01\x00\x01\x01\xc4\x01xx",  # a byte too many
        b"\x95\x01\x00\x01\x01\xc4\x02x",  # a byte too few
        b"",
        b"\x80",
        b"\xc0",
        b"\x01",
    ],
    ids=lambda body: body.hex() or "empty",
)
def test_another_encoding_of_data_is_refused(body: bytes) -> None:
    # wire.md W4
    assert refusal(frame(Kind.DATA, body)).code is Code.MALFORMED


@pytest.mark.parametrize(
    ("kind", "parts"),
    [
        (Kind.HELLO, (1, 1, b"short")),
        (Kind.HELLO, (256, 1, b"i" * 16)),
        (Kind.HELLO, (1, 1)),
        (Kind.OPEN, (0, b"n" * 16, 0, 0)),
        (Kind.OPEN, (1, "n" * 16, 0, 0)),
        (Kind.OPEN, (1, b"n" * 16, 0, 2**31)),
        (Kind.CREDIT, (1, 0)),
        (Kind.ACK, (1, SEQUENCE_MAX + 1)),
        (Kind.ACK, (1, -1)),
        (Kind.ACK, (True, 1)),
        (Kind.PING, (1, 1)),
        (Kind.PING, (2**32, False)),
        (Kind.ERROR, (0, 99, "")),
        (Kind.ERROR, (0, 0, "")),
        (Kind.BYE, (None,)),
    ],
)
def test_values_out_of_bounds_are_refused(kind: Kind, parts: tuple[object, ...]) -> None:
    body = msgpack.packb(parts)
    expected = Code.OVERSIZED if len(body) > BODY_BYTES_MAX[kind] else Code.MALFORMED
    assert refusal(frame(kind, body)).code is expected


def test_nested_and_extended_msgpack_is_refused() -> None:
    nested, extended, a_map = b"\x91" * 16, b"\x92\x01\xd4\x01\x00", b"\x92\x01\x81\x01\x01"
    for body in (nested, extended, a_map, b"\x92\x01\xc1", b"\xdd\xff\xff\xff\xff"):
        assert refusal(frame(Kind.ACK, body)).code is Code.MALFORMED


@pytest.mark.parametrize("kind", list(Kind), ids=lambda kind: kind.name)
def test_an_oversized_frame_is_refused_from_its_header(kind: Kind) -> None:
    """W3: eight bytes are enough, and no memory was set aside for the rest."""
    # wire.md W3
    decoder = Decoder()
    header = (kind << 24 | BODY_BYTES_MAX[kind] + 1).to_bytes(4, "big") + b"\0\0\0\0"
    assert list(decoder.feed(header[:7])) == []
    with pytest.raises(RemoteProtocolError) as caught:
        list(decoder.feed(header[7:]))
    assert caught.value.code is Code.OVERSIZED
    assert decoder.held_bytes == HEADER_BYTES


@pytest.mark.parametrize("kind", [0, 10, 71, 255])
def test_an_unknown_kind_is_refused_from_its_header(kind: int) -> None:
    assert refusal(bytes([kind]) + bytes(7)).code is Code.UNKNOWN_KIND


@pytest.mark.parametrize("kind", list(Kind), ids=lambda kind: kind.name)
def test_a_kind_the_state_does_not_allow_is_refused_from_its_header(kind: Kind) -> None:
    decoder = Decoder(admitted=frozenset(Kind) - {kind})
    with pytest.raises(RemoteProtocolError) as caught:
        list(decoder.feed(bytes([kind, 0, 0, 1, 0, 0, 0, 0])))
    assert caught.value.code is Code.UNEXPECTED


def test_after_a_refusal_nothing_more_is_accepted() -> None:
    decoder = Decoder()
    for data in (b"\xff" * 8, encode(Bye(), 0)):
        with pytest.raises(RemoteProtocolError):
            list(decoder.feed(data))


def test_what_is_held_is_bounded_by_the_longest_frame() -> None:
    decoder = Decoder()
    big = encode(Data(1, SEQUENCE_MAX, SEQUENCE_MAX, Mark.MORE, bytes(PAYLOAD_BYTES_MAX)), 0)
    for piece in pieces(big[:-1], list(range(0, len(big), 50_000))):
        assert list(decoder.feed(piece)) == []
        assert decoder.held_bytes <= len(big)
        assert 0 < len(decoder.room()) <= FRAME_BYTES_MAX
    assert len(list(decoder.feed(big[-1:]))) == 1


def test_a_counter_past_32_bits_wraps() -> None:
    assert encode(Bye(), 2**32 + 5) == encode(Bye(), 5)


def test_a_payload_is_never_rendered() -> None:
    assert "secret" not in repr(Data(1, 0, 1, Mark.END, b"secret"))
    stream = encode(Data(1, 0, 1, Mark.END, b"secret"), 0)
    altered = bytearray(stream)
    altered[-1] ^= 1
    for bad in (bytes(altered), frame(Kind.DATA, b"\x95\x01\x00\x01\x04\xc4\x06secret")):
        assert "secret" not in f"{refusal(bad)} {refusal(bad)!r}"


def test_our_own_oversized_message_is_our_own_bug() -> None:
    with pytest.raises(ValueError, match="expected at most"):
        encode(Error(0, Code.BUSY, "x" * 300), 0)
