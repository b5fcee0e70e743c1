"""One end of a connection, spoken to by hand, and why it ended."""

from __future__ import annotations

from tests.unit.vsock_bridge.pair import CELL_IDENTITY, HOST_IDENTITY, NAME, Hand
from vsock_bridge.cell import CellStreams
from vsock_bridge.connection import Connection, Left
from vsock_bridge.errors import Code
from vsock_bridge.limits import CREDIT_BYTES_MAX, Limits
from vsock_bridge.messages import Error, Mark, Open
from vsock_bridge.streams import Stream

LIMITS = Limits()
SMALL = Limits(
    window_bytes=8192,
    retained_bytes_max=4096,
    chunk_bytes=512,
    ack_frames=4,
    ack_bytes=2048,
    item_bytes_max=2048,
    streams_max=3,
    streams_per_connection_max=2,
)


def cell_end(limits: Limits = LIMITS) -> Hand:
    return Hand(Connection.for_cell(CELL_IDENTITY, limits, CellStreams(limits).find))


def host_end(limits: Limits = LIMITS) -> tuple[Hand, Stream]:
    """A host's connection with one stream asked for, position 1 sent; a hand speaks for the cell."""
    hand = Hand(Connection.for_host(HOST_IDENTITY, limits))
    stream = Stream.of_host(NAME, limits)
    hand.other.attach(stream)
    stream.sending.push(Mark.END, b"item")
    hand.hear()
    return hand, stream


def opened_cell(limits: Limits = LIMITS) -> Hand:
    hand = cell_end(limits)
    hand.say(Open(1, NAME, 0, CREDIT_BYTES_MAX))
    hand.hear()
    return hand


def code_of(hand: Hand) -> Code:
    """Why the connection ended: in the last event, and in the ERROR the peer was sent."""
    left = hand.events[-1]
    assert isinstance(left, Left)
    assert left.refusal is not None
    assert hand.other.closed
    error = hand.hear()[-1]
    assert isinstance(error, Error)
    assert (error.stream, error.code) == (0, left.refusal.code)
    return error.code
