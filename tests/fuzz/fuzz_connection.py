"""Invariant: Connection.receive never raises whatever the peer sends, in both roles, tells its end once, and what it
holds stays within its limits."""

from __future__ import annotations

from vsock_bridge.cell import CellStreams
from vsock_bridge.codec import encode
from vsock_bridge.connection import Arrived, CancelAsked, Connection, Detached, Event, Left
from vsock_bridge.errors import Code, RemoteProtocolError
from vsock_bridge.limits import REPLIES_WAITING_MAX, Limits, frame_cost
from vsock_bridge.messages import Ack, Bye, Cancel, Credit, Data, Error, Hello, Kind, Mark, Message, Open, Ping
from vsock_bridge.streams import Stream

LIMITS = Limits(
    window_bytes=8192,
    retained_bytes_max=4096,
    chunk_bytes=512,
    ack_frames=3,
    ack_bytes=2048,
    item_bytes_max=2048,
    streams_max=4,
    streams_per_connection_max=3,
    gather_bytes_max=2048,
)
NAMES = [bytes([number]) * 16 for number in range(6)]


def one_input(data: bytes) -> None:
    """The first byte picks the role and the greeting; what follows is read as a script of frames and raw bytes."""
    if data:
        (_Cell if data[0] & 1 else _Host)(greeted=data[0] & 2 == 0).play(data[1:])


class _Fuzzed:
    """A connection, and a peer that says what the script wants with every checksum right."""

    connection: Connection

    def __init__(self, *, greeted: bool) -> None:
        self._counter = 0
        self._ends = 0
        if greeted:
            self._say(Hello(1, 1, b"x" * 16))

    def play(self, script: bytes) -> None:
        at = 0
        while at + 4 <= len(script):
            step, one, two, three = script[at : at + 4]
            at += 4
            if step & 0x0F == 0x0F:  # raw bytes
                self._receive(script[at : at + one])
                at += one
            elif step & 0x10:
                self._work()
            else:
                message = _message(step & 0x0F, one, two, three)
                if message is not None:
                    self._say(message)
        self._work()

    def _say(self, message: Message) -> None:
        self._receive(encode(message, self._counter))
        self._counter += 1

    def _receive(self, data: bytes) -> None:
        was_closed = self.connection.closed
        events = self.connection.receive(data)
        assert not (was_closed and events)
        self._ends += sum(isinstance(event, Left) for event in events)
        assert self._ends == self.connection.closed
        for event in events:
            self._on(event)
        self._check()

    def _check(self) -> None:
        assert len(self.connection._replies) <= REPLIES_WAITING_MAX + 1
        assert len(self.connection._lanes) <= LIMITS.streams_per_connection_max
        for lane in self.connection._lanes.values():
            receiving = lane.stream.receiving
            assert 0 <= receiving.held_bytes <= LIMITS.window_bytes
            assert lane.granted + receiving.held_bytes <= LIMITS.window_bytes
            assert lane.stream.sending.retained_bytes <= LIMITS.retained_bytes_max
            assert lane.credit >= 0

    def _on(self, event: Event) -> None:
        raise NotImplementedError

    def _work(self) -> None:
        raise NotImplementedError


class _Cell(_Fuzzed):
    def __init__(self, *, greeted: bool) -> None:
        self.table = CellStreams(LIMITS)
        self.connection = Connection.for_cell(b"c" * 16, LIMITS, self.table.find)
        super().__init__(greeted=greeted)

    def _on(self, event: Event) -> None:
        try:
            match event:
                case Arrived(stream, frame):
                    self.table.of(stream).arrived(frame)
                case CancelAsked(stream, position):
                    self.table.of(stream).cancel(position)
                case Detached(stream):
                    self.table.detached(stream, self.connection)
                case Left():
                    self.table.released(self.connection)
                case _:
                    pass
        except RemoteProtocolError as refusal:
            if refusal.code is not Code.ITEM:
                raise
            self._ends += len(self.connection.refuse(refusal))
            self.table.released(self.connection)

    def _work(self) -> None:
        """Take what waits, answer what fits, send."""
        for held in self.table.carried_by(self.connection):
            item = held.take()
            if held.running is not None and held.stream.sending.has_room(20):
                cancelled = item is not None and item.cancelled
                held.answer(Mark.CANCELLED if cancelled else Mark.END, bytes(20))
            assert self.connection.carries(held.stream)
        self.connection.gather()
        assert len(self.table) <= LIMITS.streams_max


class _Host(_Fuzzed):
    def __init__(self, *, greeted: bool) -> None:
        self.connection = Connection.for_host(b"h" * 16, LIMITS)
        self.untaken: list[tuple[Stream, int]] = []
        super().__init__(greeted=greeted)
        if greeted:
            for name in NAMES[:2]:
                stream = Stream.of_host(name, LIMITS)
                self.connection.attach(stream)
                for _ in range(3):
                    stream.sending.push(Mark.END, b"item")
                self.connection.cancel(stream, 2)
        self.connection.gather()

    def _on(self, event: Event) -> None:
        if isinstance(event, Arrived):
            self.untaken.append((event.stream, len(event.frame.payload)))

    def _work(self) -> None:
        if self.untaken:
            stream, size = self.untaken.pop(0)
            stream.receiving.taken(frame_cost(size))
        self.connection.gather()


def _message(kind: int, one: int, two: int, three: int) -> Message | None:
    """A message of the kind, its numbers small so that they meet; three = 255 makes one of them large."""
    large = 2**31 - 1 if three == 255 else 0
    stream = one % 8 + 1
    match kind:
        case Kind.HELLO:
            return Hello(one % 3, two % 3, b"x" * 16)
        case Kind.OPEN:
            return Open(stream, NAMES[two % len(NAMES)], three % 4, large or two * 64)
        case Kind.DATA:
            return Data(stream, two % 16, three % 8, Mark(three >> 6), bytes(two * 8))
        case Kind.CREDIT:
            return Credit(stream, large or two * 16 + 1)
        case Kind.ACK:
            return Ack(stream, large or two % 16)
        case Kind.CANCEL:
            return Cancel(stream, large or two % 16)
        case Kind.PING:
            return Ping(two, bool(three & 1))
        case Kind.ERROR:
            return Error(one % 8, Code(two % len(Code) + 1), "why")
        case Kind.BYE:
            return Bye()
        case _:
            return None


SEEDS = [
    b"",
    bytes([1, 2, 0, 0, 0, 3, 0, 0, 1, 3, 0, 1, 2, 0x10, 0, 0, 0, 5, 0, 1, 0, 4, 0, 9, 0]),
    bytes([1, 2, 0, 0, 0, 2, 1, 1, 0, 8, 1, 10, 0, 2, 2, 1, 0, 6, 2, 1, 0, 9, 0, 0, 0]),
    bytes([0, 2, 0, 0, 0, 2, 1, 1, 0, 3, 0, 0, 1, 0x10, 0, 0, 0, 5, 0, 2, 0, 4, 1, 200, 255]),
    bytes([3, 1, 1, 1, 0, 7, 0, 5, 0, 0x0F, 8, 0, 0, 3, 0, 0, 1, 0, 0, 0, 0]),
    bytes([1, *([7, 0, 0, 0] * 70)]),
    bytes([1, *(part for number in range(5) for part in (2, number, number, 0))]),
]
