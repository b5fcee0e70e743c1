"""The cell's memory of one port's streams: waiting items, which connection carries what, which stream makes room.

Still no socket and no clock. A connection finds its streams here (`find`), what arrived is handed in
(`CellStream.arrived`, `cancel`), and whoever does the work takes items out (`take`) and answers them, in order,
exactly once each.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from vsock_bridge.connection import Connection
from vsock_bridge.errors import Code, LocalProtocolError, StreamEnded
from vsock_bridge.limits import Limits
from vsock_bridge.messages import Data, Mark
from vsock_bridge.streams import Reassembly, Stream


@dataclass(frozen=True, slots=True)
class Item:
    """What the host sent at a position, whole."""

    position: int
    payload: bytes
    cancelled: bool


class CellStream:
    """One stream and the items of it that nobody has taken yet. Bounded by the window the host was granted."""

    def __init__(self, name: bytes, limits: Limits) -> None:
        self.stream: Final = Stream.of_cell(name, limits)
        self.carrier: Connection | None = None
        self._reassembly: Final = Reassembly(limits.item_bytes_max)
        self._waiting: Final[deque[tuple[int, bytes, int]]] = deque()
        self._running: int | None = None
        self._cancelled: Final[set[int]] = set()

    @property
    def running(self) -> int | None:
        """The position that was taken and is not answered to the end."""
        return self._running

    def arrived(self, frame: Data) -> bool:
        """True when `frame` completes an item."""
        item = self._reassembly.add(frame)
        if item is None:
            return False
        self._waiting.append((frame.position, item, self._reassembly.cost_bytes))
        return True

    def cancel(self, position: int) -> bool:
        """The host no longer wants `position`. True if that is the one running now.

        One that waits is noted; any other is forgotten, so that asking costs no memory.
        """
        if position == self._running:
            return True
        if self._waiting and self._waiting[0][0] <= position <= self._waiting[-1][0]:  # positions have no gaps
            self._cancelled.add(position)
        return False

    def take(self) -> Item | None:
        """The next item, once the one before is answered to the end. Its room is granted to the host again."""
        if self._running is not None or not self._waiting:
            return None
        position, payload, cost = self._waiting.popleft()
        self.stream.receiving.taken(cost)
        self._running = position
        cancelled = position in self._cancelled
        self._cancelled.discard(position)
        return Item(position, payload, cancelled)

    def answer(self, mark: Mark, payload: bytes) -> None:
        """One more frame for the running position. Ask `stream.sending.has_room` first."""
        if self._running is None:
            raise LocalProtocolError("an answer needs an item that was taken")
        self.stream.sending.push(mark, payload)
        if mark is not Mark.MORE:
            self._running = None


class CellStreams:
    """All streams of a port, by name, the longest-abandoned first in line to make room (W18)."""

    def __init__(self, limits: Limits, on_evicted: Callable[[CellStream], None] | None = None) -> None:
        self._limits: Final = limits
        self._on_evicted: Final = on_evicted
        self._streams: Final[dict[bytes, CellStream]] = {}  # in the order they were last carried

    def __len__(self) -> int:
        return len(self._streams)

    def find(self, name: bytes, connection: Connection) -> Stream:
        """The stream of that name for `connection`, made if there is none; an older carrier loses it."""
        held = self._streams.pop(name, None)
        if held is None:
            self._make_room()
            held = CellStream(name, self._limits)
        self._streams[name] = held
        if held.carrier is not None:
            held.carrier.detach(held.stream, Code.SUPERSEDED, "opened on a newer connection")
        held.carrier = connection
        return held.stream

    def of(self, stream: Stream) -> CellStream:
        return self._streams[stream.name]

    def carried_by(self, connection: Connection) -> list[CellStream]:
        return [held for held in self._streams.values() if held.carrier is connection]

    def detached(self, stream: Stream, connection: Connection) -> None:
        """`connection` gave the stream up: it waits for the next one, unless the same has opened it anew since."""
        held = self.of(stream)
        if held.carrier is connection and not connection.carries(stream):
            held.carrier = None

    def released(self, connection: Connection) -> None:
        """The connection is gone: what it carried waits here, as the last in line to make room."""
        for held in self.carried_by(connection):
            held.carrier = None
            self._streams[held.stream.name] = self._streams.pop(held.stream.name)

    def _make_room(self) -> None:
        """Memory is bounded, so a newcomer may push out a stream that no connection carries.

        An idle one, or else the one longest abandoned; its host is told GAP when it returns. A stream that is
        carried is never touched.
        """
        if len(self._streams) < self._limits.streams_max:
            return
        abandoned = [held for held in self._streams.values() if held.carrier is None]
        if not abandoned:
            raise StreamEnded(Code.STREAMS, f"expected at most {self._limits.streams_max} streams, got one more")
        victim = next((held for held in abandoned if held.stream.idle), abandoned[0])
        del self._streams[victim.stream.name]
        if self._on_evicted is not None:
            self._on_evicted(victim)
