"""Every bound of the bridge in one place, the unit in the name. docs/spec/wire.md W20 has their sum."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

VERSION: Final = 1  # W6: the only version there is
NAME_BYTES: Final = 16  # a stream's name: random, so that nobody guesses another's
IDENTITY_BYTES: Final = 16  # who speaks: random, new at every start
TEXT_BYTES_MAX: Final = 200  # of an ERROR's explanation
FAILED_CODE_BYTES_MAX: Final = 40  # of the word that says why an item FAILED
SEQUENCE_MAX: Final = 2**63 - 1
CREDIT_BYTES_MAX: Final = 2**31 - 1  # W12: more credit than this outstanding is a lie
PAYLOAD_BYTES_MAX: Final = 256 * 1024  # of one DATA frame
DATA_OVERHEAD_BYTES_MAX: Final = 48  # of a DATA body around its payload
FRAME_COST_BYTES: Final = 256  # W12: what a frame costs beside its payload: about what it takes to keep one
REPLIES_WAITING_MAX: Final = 64  # answers to pings and the like that a peer may leave unread
REPLY_BYTES_MAX: Final = 512  # what one of them costs at most while it waits
FRAME_BYTES_MAX: Final = 8 + PAYLOAD_BYTES_MAX + DATA_OVERHEAD_BYTES_MAX  # so large is a receive buffer, too
WRITE_BUFFER_BYTES: Final = 64 * 1024  # asyncio's: a transport that holds more than this takes nothing more


def frame_cost(payload_bytes: int) -> int:
    """What a DATA frame counts against credit, windows and retention."""
    return payload_bytes + FRAME_COST_BYTES


@dataclass(frozen=True, slots=True)
class Limits:
    """What one side is willing to hold and how long it is willing to wait."""

    window_bytes: int = 3 * 1024 * 1024  # received and not yet taken, a stream
    retained_bytes_max: int = 1024 * 1024  # sent or waiting, not yet acknowledged, a stream
    chunk_bytes: int = 64 * 1024  # into which what we send is cut
    ack_frames: int = 16  # W11: a receiver acknowledges when it owes this many frames
    ack_bytes: int = 256 * 1024  #      or this much
    item_bytes_max: int = 2 * 1024 * 1024  # reassembled on the cell's side
    streams_max: int = 24  # that one port remembers, attached or not
    streams_per_connection_max: int = 8
    connections_max: int = 64  # a port
    gather_bytes_max: int = 64 * 1024  # handed to the operating system at a time
    hello_seconds_max: float = 5.0  # from connecting to a complete greeting
    frame_seconds_max: float = 20.0  # from a frame's first byte to its last
    silence_seconds_max: float = 30.0  # then a ping; twice that, and the peer is gone
    stall_seconds_max: float = 30.0  # a peer that does not read what it asked for

    @property
    def connection_bytes_max(self) -> int:
        """W20: what one connection can make its end hold: receive buffer, waiting replies, transport's buffer."""
        written = WRITE_BUFFER_BYTES + self.gather_bytes_max + FRAME_BYTES_MAX
        return FRAME_BYTES_MAX + (REPLIES_WAITING_MAX + 1) * REPLY_BYTES_MAX + written

    @property
    def stream_bytes_max(self) -> int:
        """W20: what one stream can make its end hold: received, retained, and the item that is being answered."""
        return self.window_bytes + self.retained_bytes_max + self.item_bytes_max

    @property
    def port_bytes_max(self) -> int:
        """W20: what everybody together can make one port of the cell hold."""
        return self.connections_max * self.connection_bytes_max + self.streams_max * self.stream_bytes_max

    @property
    def sweep_seconds(self) -> float:
        """How often the clock is looked at: a bound is overrun by an eighth of the shortest one at most."""
        shortest = min(self.hello_seconds_max, self.frame_seconds_max, self.silence_seconds_max, self.stall_seconds_max)
        return shortest / 8

    def __post_init__(self) -> None:
        if not 0 < self.chunk_bytes <= PAYLOAD_BYTES_MAX:
            raise ValueError(f"a chunk is a frame's payload: 1 to {PAYLOAD_BYTES_MAX} bytes")
        frames_of_an_item = -(-self.item_bytes_max // self.chunk_bytes)
        if self.item_bytes_max + frames_of_an_item * FRAME_COST_BYTES > self.window_bytes:
            raise ValueError("an item must fit the window, or it could never arrive")
        if self.retained_bytes_max < frame_cost(self.chunk_bytes) + self.ack_bytes:
            raise ValueError("a frame must fit beside what is not yet acknowledged, or it could never be sent")
        if self.window_bytes > CREDIT_BYTES_MAX:
            raise ValueError("a window is granted as credit and cannot be larger than credit can be")


SIDE_PORT: Final = Limits(
    window_bytes=640 * 1024, retained_bytes_max=512 * 1024, item_bytes_max=512 * 1024, streams_max=8, connections_max=16
)
"""For ports that carry short questions and answers: a tenth of what the stream of prompts may hold."""
