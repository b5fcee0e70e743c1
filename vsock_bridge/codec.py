"""Bytes <-> messages. No socket, no clock; a frame counter is the only state.

A frame is eight bytes of header and a msgpack array:

    kind u8 | body length u24 | CRC-32C u32 | body

The checksum runs over kind, length and body and starts from the number of the frame on this connection, so
that a repeated, lost or moved frame fails as surely as an altered one (W5). It protects against accidents
and nothing else: every message that matters is authenticated end to end. A length above the bound of its
kind is refused from the header, before a byte of the body is kept (W3).
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Container, Iterator
from typing import Any, Final, NamedTuple

import google_crc32c
import msgpack

from vsock_bridge.errors import Code, RemoteProtocolError
from vsock_bridge.limits import (
    CREDIT_BYTES_MAX,
    DATA_OVERHEAD_BYTES_MAX,
    FRAME_BYTES_MAX,
    IDENTITY_BYTES,
    NAME_BYTES,
    PAYLOAD_BYTES_MAX,
    SEQUENCE_MAX,
    TEXT_BYTES_MAX,
)
from vsock_bridge.messages import Ack, Bye, Cancel, Credit, Data, Error, Hello, Kind, Mark, Message, Open, Ping

HEADER_BYTES: Final = 8
_HEADER: Final = struct.Struct(">II")
_WORD: Final = 0xFFFFFFFF
_LENGTH: Final = 0xFFFFFF
_STREAM_MAX: Final = 2**31 - 1

BODY_BYTES_MAX: Final[dict[Kind, int]] = {
    Kind.HELLO: 32,
    Kind.OPEN: 48,
    Kind.DATA: PAYLOAD_BYTES_MAX + DATA_OVERHEAD_BYTES_MAX,
    Kind.CREDIT: 16,
    Kind.ACK: 16,
    Kind.CANCEL: 16,
    Kind.PING: 16,
    Kind.ERROR: TEXT_BYTES_MAX + 16,
    Kind.BYE: 1,
}
_BOUND_BY_NUMBER: Final = {int(kind): bound for kind, bound in BODY_BYTES_MAX.items()}
_KINDS: Final = {int(kind): kind for kind in Kind}
_MARKS: Final = {int(mark): mark for mark in Mark}
_CODES: Final = {int(code): code for code in Code}


_crc32c: Final[Callable[[int, bytes], int]] = google_crc32c.extend


def checksum(counter: int, head: bytes, tail: bytes) -> int:
    """CRC-32C over the header's first word and the body, begun at the frame's number (W5); cut anywhere in two."""
    return _crc32c(_crc32c(counter & _WORD, head), tail)


# -- bodies


class _Field(NamedTuple):
    """One place of a body: what may stand there."""

    kind: type
    low: int
    high: int

    def admits(self, value: object) -> bool:
        if type(value) is not self.kind:
            return False
        measured = value if isinstance(value, int) else len(value)  # type: ignore[arg-type]
        return self.low <= measured <= self.high


_STREAM = _Field(int, 1, _STREAM_MAX)
_STREAM_OR_ALL = _Field(int, 0, _STREAM_MAX)
_SEQUENCE = _Field(int, 0, SEQUENCE_MAX)
_CREDIT = _Field(int, 1, CREDIT_BYTES_MAX)
_CREDIT_OR_NONE = _Field(int, 0, CREDIT_BYTES_MAX)

_FIELDS: Final[dict[Kind, tuple[_Field, ...]]] = {
    Kind.HELLO: (_Field(int, 0, 255), _Field(int, 0, 255), _Field(bytes, IDENTITY_BYTES, IDENTITY_BYTES)),
    Kind.OPEN: (_STREAM, _Field(bytes, NAME_BYTES, NAME_BYTES), _SEQUENCE, _CREDIT_OR_NONE),
    Kind.CREDIT: (_STREAM, _CREDIT),
    Kind.ACK: (_STREAM, _SEQUENCE),
    Kind.CANCEL: (_STREAM, _SEQUENCE),
    Kind.PING: (_Field(int, 0, _WORD), _Field(bool, 0, 1)),
    Kind.ERROR: (_STREAM_OR_ALL, _Field(int, 1, 255), _Field(str, 0, TEXT_BYTES_MAX)),
    Kind.BYE: (),
}


def _error(stream: int, code: int, text: str) -> Error:
    known = _CODES.get(code)
    if known is None:
        raise _malformed("a known error code", str(code))
    return Error(stream, known, text)


_MAKERS: Final[dict[Kind, Callable[..., Message]]] = {
    Kind.HELLO: Hello,
    Kind.OPEN: Open,
    Kind.CREDIT: Credit,
    Kind.ACK: Ack,
    Kind.CANCEL: Cancel,
    Kind.PING: Ping,
    Kind.ERROR: _error,
    Kind.BYE: Bye,
}


def _parts(message: Message) -> tuple[Kind, tuple[object, ...]]:
    match message:
        case Ack(stream, received):
            return Kind.ACK, (stream, received)
        case Credit(stream, bytes_more):
            return Kind.CREDIT, (stream, bytes_more)
        case Hello(lowest, highest, identity):
            return Kind.HELLO, (lowest, highest, identity)
        case Open(stream, name, received, credit):
            return Kind.OPEN, (stream, name, received, credit)
        case Cancel(stream, position):
            return Kind.CANCEL, (stream, position)
        case Ping(token, reply):
            return Kind.PING, (token, reply)
        case Error(stream, code, text):
            return Kind.ERROR, (stream, int(code), text)
        case Bye():
            return Kind.BYE, ()
        case Data():
            raise AssertionError("DATA has an encoding of its own")


_pack: Final = msgpack.Packer(use_bin_type=True, autoreset=True).pack


def encode(message: Message, counter: int) -> bytes:
    """The frame of `message` as the `counter`-th frame of this direction of a connection."""
    if type(message) is Data:
        return encode_data(message, message.stream, counter)
    kind, parts = _parts(message)
    return _frame_of(kind, _pack(parts), b"", counter)


def encode_data(data: Data, stream: int, counter: int) -> bytes:
    """The frame of `data` on stream number `stream`: a retained frame gets its number when it is sent."""
    head = _data_head(stream, data.sequence, data.position, data.mark, payload_bytes=len(data.payload))
    return _frame_of(Kind.DATA, head, data.payload, counter)


def _frame_of(kind: Kind, head: bytes, tail: bytes, counter: int) -> bytes:
    """`tail` is the long part, if there is one: it is copied once, into the frame."""
    length = len(head) + len(tail)
    if length > _BOUND_BY_NUMBER[kind]:
        raise ValueError(f"{kind.name} body: expected at most {BODY_BYTES_MAX[kind]} bytes, got {length}")
    word = ((kind << 24) | length).to_bytes(4, "big")
    crc = checksum(counter, word + head, tail)
    return b"".join((word, crc.to_bytes(4, "big"), head, tail))


def _data_head(stream: int, sequence: int, position: int, mark: int, *, payload_bytes: int) -> bytes:
    """The body of DATA up to its payload, which comes last and is the only long field."""
    empty: bytes = _pack((stream, sequence, position, mark, b""))
    return empty[:-2] + _bin_header(payload_bytes)


def _shape(value: object) -> str:
    """The type and size of what a peer sent, and of numbers the value."""
    match value:
        case bool() | None:
            return str(value)
        case int():
            return str(value)  # at most 64 bits in MessagePack
        case bytes() | str() | tuple():
            return f"{type(value).__name__} of {len(value)}"
        case _:
            return type(value).__name__


def _decode_body(kind: Kind, body: bytes) -> Message:
    parts = _unpack(kind, body)
    fields = _FIELDS[kind]
    if type(parts) is not tuple or len(parts) != len(fields):
        raise _malformed(f"{kind.name} of {len(fields)} fields", _shape(parts))
    for number, (place, value) in enumerate(zip(fields, parts, strict=True)):
        if not place.admits(value):
            raise _malformed(f"{kind.name} field {number} in bounds", _shape(value))
    if _pack(parts) != body:  # W4: one accepted encoding
        raise _malformed(f"the shortest encoding of {kind.name}", f"{len(body)} bytes")
    return _MAKERS[kind](*parts)


def _decode_data(body: memoryview) -> tuple[Data, bytes]:
    """DATA, and its encoding up to the payload. Most of all traffic, so its fields are checked in place."""
    parts = _unpack(Kind.DATA, body)
    if type(parts) is not tuple or len(parts) != 5:
        raise _malformed("DATA of 5 fields", _shape(parts))
    stream, sequence, position, mark, payload = parts
    if not (type(stream) is type(sequence) is type(position) is type(mark) is int and type(payload) is bytes):
        raise _malformed("DATA of four numbers and a payload", ", ".join(type(part).__name__ for part in parts))
    if not (0 < stream <= _STREAM_MAX and 0 <= sequence <= SEQUENCE_MAX and 0 <= position <= SEQUENCE_MAX):
        raise _malformed("DATA with numbers in bounds", f"stream {stream}, sequence {sequence}, position {position}")
    known = _MARKS.get(mark)
    if known is None or len(payload) > PAYLOAD_BYTES_MAX:
        raise _malformed("DATA with a known mark and a payload in bounds", f"mark {mark} and {len(payload)} bytes")
    # W4: the payload is last and the only long field, so its length and all before it say the whole encoding.
    head = _data_head(stream, sequence, position, mark, payload_bytes=len(payload))
    if len(body) != len(head) + len(payload) or body[: len(head)] != head:
        raise _malformed("the shortest encoding of DATA", f"{len(body)} bytes")
    return Data(stream, sequence, position, known, payload), head


def _bin_header(length: int) -> bytes:
    if length < 1 << 8:
        return bytes((0xC4, length))
    if length < 1 << 16:
        return b"\xc5" + length.to_bytes(2, "big")
    return b"\xc6" + length.to_bytes(4, "big")


def _unpack(kind: Kind, body: bytes | memoryview) -> Any:
    try:
        return msgpack.unpackb(
            body,
            use_list=False,
            raw=False,
            strict_map_key=True,
            max_str_len=TEXT_BYTES_MAX,
            max_bin_len=PAYLOAD_BYTES_MAX,
            max_array_len=8,
            max_map_len=0,
            max_ext_len=0,
        )
    except (ValueError, TypeError, OverflowError, RecursionError, msgpack.UnpackException) as reason:
        raise _malformed(f"{kind.name} as msgpack", type(reason).__name__) from None


def _malformed(expected: str, got: str) -> RemoteProtocolError:
    return RemoteProtocolError(Code.MALFORMED, expected=expected, got=got)


# -- frames


class Decoder:
    """Frames out of a byte stream cut anywhere. Holds no more than its buffer, which is as long as a frame can be.

    Bytes are received straight into `room()` and announced with `filled`; then `next_message` until it has none.
    Raises `RemoteProtocolError` and nothing else; after that nothing more is accepted.
    """

    def __init__(self, admitted: Container[int] = frozenset(Kind)) -> None:
        self.admitted = admitted  # kinds the present state allows: others are refused from the header
        self.frames = 0  # how many were whole and well formed: the number of the next one
        self._buffer: Final = bytearray(FRAME_BYTES_MAX)
        self._start = 0  # of what was received and is not yet a message
        self._stop = 0
        self._wanted = HEADER_BYTES  # how many bytes the next step needs: a header, then its whole frame
        self._failed = False

    @property
    def held_bytes(self) -> int:
        """How much of an unfinished frame is kept: a caller with a clock bounds how long it may stay so."""
        return self._stop - self._start

    def room(self) -> memoryview:
        """Where to receive to; never empty. Valid until the next call of anything here."""
        if self._start == self._stop:
            self._start = self._stop = 0
        elif self._start + self._wanted > FRAME_BYTES_MAX:  # the frame that has begun gets room for its end
            self._to_the_front()
        return memoryview(self._buffer)[self._stop :]

    def _to_the_front(self) -> None:
        view = memoryview(self._buffer)
        view[: self.held_bytes] = view[self._start : self._stop]
        self._start, self._stop = 0, self.held_bytes

    def filled(self, count: int) -> None:
        """The first `count` bytes of `room()` came from the peer."""
        self._stop += count

    def feed(self, data: bytes | memoryview) -> Iterator[Message]:
        """The messages completed by `data`, one by one, for a caller that has the bytes already."""
        rest = memoryview(data)
        while rest:
            room = self.room()
            count = min(len(room), len(rest))
            room[:count] = rest[:count]
            rest = rest[count:]
            self.filled(count)
            while (message := self.next_message()) is not None:
                yield message

    def next_message(self) -> Message | None:
        """The next message of what was received, or None until there is more."""
        if self._failed:
            raise RemoteProtocolError(
                Code.UNEXPECTED, expected="nothing after a refusal", got=f"{self.held_bytes} bytes"
            )
        try:
            return self._next_message()
        except RemoteProtocolError:
            self._failed = True
            raise

    def _next_message(self) -> Message | None:
        start = self._start
        body = start + HEADER_BYTES
        if body > self._stop:
            self._wanted = HEADER_BYTES
            return None
        word, claimed = _HEADER.unpack_from(self._buffer, start)
        kind, length = word >> 24, word & _LENGTH
        if length > _BOUND_BY_NUMBER.get(kind, -1) or kind not in self.admitted:
            raise _refusal_of_header(kind, length)
        stop = body + length
        if stop > self._stop:
            self._wanted = HEADER_BYTES + length
            return None
        message = self._message(kind, word.to_bytes(4, "big"), claimed, memoryview(self._buffer)[body:stop])
        self.frames += 1
        self._start = stop
        return message

    def _message(self, kind: int, word: bytes, claimed: int, body: memoryview) -> Message:
        if kind == Kind.DATA:
            return self._data(word, claimed, body)
        self._check(claimed, word, bytes(body))
        return _decode_body(_KINDS[kind], bytes(body))

    def _data(self, word: bytes, claimed: int, body: memoryview) -> Data:
        """DATA is copied once: the payload that msgpack makes is the one that is checked and handed on."""
        try:
            data, head = _decode_data(body)
        except RemoteProtocolError:
            self._check(claimed, word, bytes(body))  # W5: altered bytes are a matter of the checksum first
            raise
        self._check(claimed, word + head, data.payload)
        return data

    def _check(self, claimed: int, head: bytes, tail: bytes) -> None:
        found = checksum(self.frames, head, tail)
        if found != claimed:
            raise RemoteProtocolError(
                Code.CHECKSUM, expected=f"frame {self.frames}", got=f"checksum {found:#010x}, {claimed:#010x} stated"
            )


def _refusal_of_header(kind: int, length: int) -> RemoteProtocolError:
    known = _KINDS.get(kind)
    if known is None:
        return RemoteProtocolError(Code.UNKNOWN_KIND, expected="a kind of the grammar", got=kind)
    if length > BODY_BYTES_MAX[known]:
        expected = f"{known.name} of at most {BODY_BYTES_MAX[known]} bytes"
        return RemoteProtocolError(Code.OVERSIZED, expected=expected, got=length)
    return RemoteProtocolError(Code.UNEXPECTED, expected="a kind this state and role allow", got=known.name)
