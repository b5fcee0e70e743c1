"""A host's and a cell's connection wired together in memory, and a hand that can speak for either of them."""

from __future__ import annotations

from dataclasses import dataclass, field

from vsock_bridge.cell import CellStreams
from vsock_bridge.codec import Decoder, encode
from vsock_bridge.connection import Arrived, CancelAsked, Connection, Detached, Event, Left
from vsock_bridge.limits import Limits
from vsock_bridge.messages import Hello, Message
from vsock_bridge.streams import Stream

HOST_IDENTITY, CELL_IDENTITY = b"h" * 16, b"c" * 16
NAME = b"n" * 16


@dataclass
class Pair:
    """Both ends; `pump` carries bytes until neither has more to say."""

    limits: Limits = field(default_factory=Limits)
    table: CellStreams = field(init=False)

    def __post_init__(self) -> None:
        self.table = CellStreams(self.limits)
        self.connect()

    def connect(self) -> None:
        """A new connection; what the table and the host's streams remember stays."""
        self.host = Connection.for_host(HOST_IDENTITY, self.limits)
        self.cell = Connection.for_cell(CELL_IDENTITY, self.limits, self.table.find)

    def cut(self) -> None:
        self.table.released(self.cell)
        self.connect()

    def pump(self, chunk: int = 1 << 20) -> tuple[list[Event], list[Event]]:
        """What the host and what the cell were told."""
        host_events: list[Event] = []
        cell_events: list[Event] = []
        while (up := self.host.gather()) + (down := self.cell.gather()):
            for at in range(0, len(up), chunk):
                cell_events += self.at_cell(self.cell.receive(up[at : at + chunk]))
            for at in range(0, len(down), chunk):
                host_events += self.host.receive(down[at : at + chunk])
        return host_events, cell_events

    def at_cell(self, events: list[Event]) -> list[Event]:
        for event in events:
            match event:
                case Arrived(stream, frame):
                    self.table.of(stream).arrived(frame)
                case CancelAsked(stream, position):
                    self.table.of(stream).cancel(position)
                case Detached(stream):
                    self.table.detached(stream, self.cell)
                case Left():
                    self.table.released(self.cell)
                case _:
                    pass
        return events

    def opened(self, name: bytes = NAME) -> Stream:
        """Greet and attach one stream."""
        self.pump()
        stream = Stream.of_host(name, self.limits)
        self.host.attach(stream)
        self.pump()
        return stream


class Hand:
    """A peer written by hand: says what it is told to, checksums right, and hears the other's messages."""

    def __init__(self, other: Connection, *, greet: bool = True) -> None:
        self.other = other
        self._counter = 0
        self._decoder = Decoder()
        self.events: list[Event] = []
        if greet:
            self.say(Hello(1, 1, b"x" * 16))
            self.hear()

    def say(self, *messages: Message) -> list[Event]:
        events = [event for message in messages for event in self.other.receive(self.frame(message))]
        self.events += events
        return events

    def frame(self, message: Message) -> bytes:
        frame = encode(message, self._counter)
        self._counter += 1
        return frame

    def hear(self) -> list[Message]:
        heard: list[Message] = []
        while out := self.other.gather():
            heard += self._decoder.feed(out)
        return heard
