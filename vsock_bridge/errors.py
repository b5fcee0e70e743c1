"""The two kinds of protocol errors: `LocalProtocolError` is our bug; `RemoteProtocolError` is the peer's fault."""

from __future__ import annotations

from enum import IntEnum, unique


@unique
class Code(IntEnum):
    """Why a connection or a stream ended. The numbers travel in ERROR frames and never change meaning."""

    OVERSIZED = 1  # a length above the bound of its kind, refused from the header
    UNKNOWN_KIND = 2  # a frame kind outside the closed grammar
    CHECKSUM = 3  # bytes were altered, lost, repeated or moved
    MALFORMED = 4  # the body is not the one accepted encoding of its kind
    UNEXPECTED = 5  # a known kind that this state or this role does not allow
    VERSION = 6  # no version in common
    NO_STREAM = 7  # a stream number that is not open on this connection
    SEQUENCE = 8  # a sequence number or position out of turn
    CREDIT = 9  # more bytes than were granted, or more credit than can exist
    ACKNOWLEDGEMENT = 10  # an acknowledgement of what was never sent
    GAP = 11  # a resume from before what is still held
    STREAMS = 12  # no room for another stream
    SUPERSEDED = 13  # the same stream was opened on a newer connection
    TIMEOUT = 14  # too slow: greeting, frame, silence or reading
    BUSY = 15  # no room for another connection
    ITEM = 16  # an item larger than may be reassembled


class BridgeError(Exception):
    """Base of everything this room raises."""


class LocalProtocolError(BridgeError):
    """Our own code asked for something the protocol does not allow: a bug here, nothing was sent."""


class RemoteProtocolError(BridgeError):
    """The peer's bytes are not the protocol. Costs the peer its connection and nothing else."""

    def __init__(self, code: Code, *, expected: object, got: object) -> None:
        super().__init__(code, str(expected), str(got))
        self.code = code
        self.expected = str(expected)
        self.got = str(got)

    def __str__(self) -> str:
        return f"wire: {self.code.name.lower()}: expected {self.expected}, got {self.got}"


class ConnectFailed(BridgeError):
    """Nobody answers at an address, or what answers does not speak the transport's opening."""


class AddressRefused(ConnectFailed, ValueError):
    """A text that is no address. Also a ValueError, so that an argument parser reports it."""


class StreamEnded(BridgeError):
    """A stream cannot go on: the cell restarted, or no longer holds what is asked for. Carries the code."""

    def __init__(self, code: Code, text: str) -> None:
        super().__init__(code, text)
        self.code = code
        self.text = text

    def __str__(self) -> str:
        return f"stream: {self.code.name.lower()}: {self.text}"
