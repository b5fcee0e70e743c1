"""One end of a stream, which outlives the connections that carry it.

A stream is two rows of frames, one each way, numbered from 0. The sender keeps a frame until the receiver
has taken responsibility for it (ACK); after a cut both say how far they have come (OPEN), and the sender
goes on from there. So nothing is lost, and since a frame out of turn is refused, nothing arrives twice.

Frames carry *positions*: the host's n-th item is position n, counted from 1, and the cell answers positions in
that order. The frames of a position are consecutive and the last one bears a mark other than MORE (W9).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from typing import Final

from vsock_bridge.errors import Code, LocalProtocolError, RemoteProtocolError, StreamEnded
from vsock_bridge.limits import PAYLOAD_BYTES_MAX, Limits, frame_cost
from vsock_bridge.messages import Data, Mark


class SendingHalf:
    """What was sent or waits to be, from the first frame the peer has not acknowledged."""

    def __init__(self, retained_bytes_max: int) -> None:
        self._retained_bytes_max: Final = retained_bytes_max
        self._frames: deque[Data] = deque()  # numbered _base, _base + 1, ...; their stream number is not used
        self._base = 0
        self._cursor = 0  # the next one to put on the wire
        self._position = 1  # to which the next frame belongs
        self.retained_bytes = 0

    @property
    def next_sequence(self) -> int:
        return self._base + len(self._frames)

    @property
    def position(self) -> int:
        """The position whose frames are being sent: every lower one is complete."""
        return self._position

    @property
    def idle(self) -> bool:
        return not self._frames

    def has_sent(self, position: int) -> bool:
        """Whether the last frame of `position` has been on the wire of the present connection, or of one before."""
        at = self._cursor - self._base
        return position < (self._frames[at].position if at < len(self._frames) else self._position)

    def has_room(self, payload_bytes: int) -> bool:
        """Whether a frame fits. An empty half takes any frame, so a small bound delays but never blocks."""
        return not self._frames or self.retained_bytes + frame_cost(payload_bytes) <= self._retained_bytes_max

    def push(self, mark: Mark, payload: bytes) -> int:
        """Keep one more frame of the current position; returns the position. A final mark begins the next."""
        if len(payload) > PAYLOAD_BYTES_MAX:
            raise LocalProtocolError(f"a frame carries at most {PAYLOAD_BYTES_MAX} bytes, got {len(payload)}")
        if not self.has_room(len(payload)):
            raise LocalProtocolError("no room: wait for an acknowledgement before sending more")
        position = self._position
        self._frames.append(Data(1, self.next_sequence, position, mark, payload))
        self.retained_bytes += frame_cost(len(payload))
        if mark is not Mark.MORE:
            self._position += 1
        return position

    def acknowledge(self, received: int) -> bool:
        """The peer answers for every frame below `received` now. True if anything was let go."""
        if received > self._cursor:
            raise RemoteProtocolError(
                Code.ACKNOWLEDGEMENT, expected=f"at most {self._cursor} frames received", got=received
            )
        released = received > self._base
        while self._base < received:
            self.retained_bytes -= frame_cost(len(self._frames.popleft().payload))
            self._base += 1
        return released

    def resume(self, received: int) -> None:
        """A new connection: the peer has every frame below `received`; go on from there.

        Having a frame is not answering for it: nothing is let go before the ACK.
        """
        if not self._base <= received <= self.next_sequence:
            held = f"a resume between {self._base} and {self.next_sequence}"
            raise StreamEnded(Code.GAP, f"expected {held}, got {received}")
        self._cursor = received

    def next_frame(self, credit: int) -> Data | None:
        """The next frame for the wire if the peer's credit covers it."""
        at = self._cursor - self._base
        if at >= len(self._frames):
            return None
        frame = self._frames[at]
        if frame_cost(len(frame.payload)) > credit:
            return None
        self._cursor += 1
        return frame


class ReceivingHalf:
    """How far the peer's frames have come, and how much of them is held here and not yet taken."""

    def __init__(self, window_bytes: int, marks: frozenset[Mark]) -> None:
        self._window_bytes: Final = window_bytes
        self._marks: Final = marks
        self._position = 1
        self.received = 0
        self.held_bytes = 0

    @property
    def room_bytes(self) -> int:
        """What may still be granted to the peer."""
        return max(0, self._window_bytes - self.held_bytes)

    @property
    def position(self) -> int:
        """The position that is arriving: every lower one is complete."""
        return self._position

    def accept(self, frame: Data) -> None:
        """Take the next frame in turn. Credit was checked by the connection."""
        if frame.sequence != self.received:
            raise RemoteProtocolError(Code.SEQUENCE, expected=f"frame {self.received}", got=frame.sequence)
        if frame.position != self._position:
            raise RemoteProtocolError(Code.SEQUENCE, expected=f"position {self._position}", got=frame.position)
        if frame.mark not in self._marks:
            raise RemoteProtocolError(Code.UNEXPECTED, expected="a mark of this direction", got=frame.mark.name)
        self.received += 1
        self.held_bytes += frame_cost(len(frame.payload))
        if frame.mark is not Mark.MORE:
            self._position += 1

    def taken(self, cost_bytes: int) -> None:
        """What was held has been used: its room can be granted again."""
        if not 0 <= cost_bytes <= self.held_bytes:
            raise LocalProtocolError(f"expected to take at most {self.held_bytes} bytes, got {cost_bytes}")
        self.held_bytes -= cost_bytes


ITEM_MARKS: Final = frozenset({Mark.MORE, Mark.END})
ANSWER_MARKS: Final = frozenset(Mark)


class Stream:
    """One end of a stream: a sending and a receiving half under a name, in the memory of one process.

    Who holds a frame answers for it, so what was received is what is acknowledged. A process that dies takes its
    end along; the other end learns it from the new identity in the greeting.
    """

    def __init__(self, name: bytes, limits: Limits, *, receives: frozenset[Mark]) -> None:
        self.name: Final = name
        self.sending: Final = SendingHalf(limits.retained_bytes_max)
        self.receiving: Final = ReceivingHalf(limits.window_bytes, receives)
        self.cancelled: set[int] = set()  # the host's: asked for and not yet seen to end

    @classmethod
    def of_cell(cls, name: bytes, limits: Limits) -> Stream:
        return cls(name, limits, receives=ITEM_MARKS)

    @classmethod
    def of_host(cls, name: bytes, limits: Limits) -> Stream:
        return cls(name, limits, receives=ANSWER_MARKS)

    @property
    def idle(self) -> bool:
        """Nothing in either direction that somebody still has to do something about."""
        return self.sending.idle and self.receiving.position == self.sending.position


def chunks(item: bytes, chunk_bytes: int) -> Iterator[tuple[Mark, bytes]]:
    """An item cut into frames: MORE, MORE, ..., END."""
    last = max(0, len(item) - 1) // chunk_bytes * chunk_bytes
    for at in range(0, last, chunk_bytes):
        yield Mark.MORE, item[at : at + chunk_bytes]
    yield Mark.END, item[last:]


class Reassembly:
    """Frames of a position put back together; refuses from the running size, before joining anything."""

    def __init__(self, item_bytes_max: int) -> None:
        self._item_bytes_max: Final = item_bytes_max
        self._parts: list[bytes] = []
        self._size = 0
        self.cost_bytes = 0

    def add(self, frame: Data) -> bytes | None:
        """The whole item when `frame` ends it. Read `cost_bytes` before the next `add`."""
        if not self._parts:
            self._size = self.cost_bytes = 0
        self._size += len(frame.payload)
        self.cost_bytes += frame_cost(len(frame.payload))
        if self._size > self._item_bytes_max:
            raise RemoteProtocolError(
                Code.ITEM, expected=f"an item of at most {self._item_bytes_max} bytes", got=f"{self._size} and more"
            )
        self._parts.append(frame.payload)
        if frame.mark is Mark.MORE:
            return None
        item = b"".join(self._parts)
        self._parts = []
        return item
