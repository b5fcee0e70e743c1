"""One connection between a host and a cell: bytes in, events out, bytes to send out. No socket, no clock.

Three tables say everything that may happen (W7, W8):

    what may be received    GREETING  HELLO ERROR BYE
                            READY     the cell: all but HELLO; the host: the same without CANCEL
                            CLOSED    nothing
    what a frame does       HELLO -> READY; ERROR for the whole connection, BYE -> CLOSED
    who opens a stream      the host, with OPEN; the cell answers OPEN or ERROR

Whatever the peer sends, `receive` returns events. A peer that breaks a rule is told which (ERROR) and the
connection is over: the last event is `Left`. Streams are not: they wait for the next connection.

    connection = Connection.for_host(identity, limits)
    connection.attach(stream)
    transport.write(connection.gather())
    for event in connection.receive(data): ...
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from enum import Enum
from typing import Final, TypeAlias, assert_never

from vsock_bridge.codec import Decoder, encode, encode_data
from vsock_bridge.errors import Code, LocalProtocolError, RemoteProtocolError, StreamEnded
from vsock_bridge.limits import CREDIT_BYTES_MAX, REPLIES_WAITING_MAX, TEXT_BYTES_MAX, VERSION, Limits, frame_cost
from vsock_bridge.messages import Ack, Bye, Cancel, Credit, Data, Error, Hello, Kind, Message, Open, Ping, Tap
from vsock_bridge.streams import Stream


class Role(Enum):
    HOST = "host"
    CELL = "cell"


class State(Enum):
    GREETING = "greeting"
    READY = "ready"
    CLOSED = "closed"


_AT_ANY_TIME: Final = frozenset({Kind.ERROR, Kind.BYE})
_BOTH_WAYS: Final = _AT_ANY_TIME | {Kind.OPEN, Kind.DATA, Kind.CREDIT, Kind.ACK, Kind.PING}
ADMITTED: Final[dict[tuple[State, Role], frozenset[Kind]]] = {
    (State.GREETING, Role.CELL): _AT_ANY_TIME | {Kind.HELLO},
    (State.GREETING, Role.HOST): _AT_ANY_TIME | {Kind.HELLO},
    (State.READY, Role.CELL): _BOTH_WAYS | {Kind.CANCEL},
    (State.READY, Role.HOST): _BOTH_WAYS,
    (State.CLOSED, Role.CELL): frozenset(),
    (State.CLOSED, Role.HOST): frozenset(),
}


# -- what a caller is told


@dataclass(frozen=True, slots=True)
class Greeted:
    """The peer speaks our version. Another `identity` than before means that it has forgotten everything."""

    identity: bytes


@dataclass(frozen=True, slots=True)
class Attached:
    """The stream flows on this connection now."""

    stream: Stream


@dataclass(frozen=True, slots=True)
class Arrived:
    """A frame in turn. Its cost stays held until the caller says `taken`."""

    stream: Stream
    frame: Data


@dataclass(frozen=True, slots=True)
class Released:
    """The peer answers for more of what was sent: there may be room again."""

    stream: Stream


@dataclass(frozen=True, slots=True)
class CancelAsked:
    stream: Stream
    position: int


@dataclass(frozen=True, slots=True)
class Detached:
    """This connection no longer carries the stream; `code` says why."""

    stream: Stream
    code: Code
    text: str


@dataclass(frozen=True, slots=True)
class Ponged:
    token: int


@dataclass(frozen=True, slots=True)
class Left:
    """The connection is over. `refusal` is None after BYE, else whose fault it was and what."""

    refusal: RemoteProtocolError | None


Event: TypeAlias = Greeted | Attached | Arrived | Released | CancelAsked | Detached | Ponged | Left
Find: TypeAlias = "Callable[[bytes, Connection], Stream]"


@dataclass(slots=True, eq=False)
class _Lane:
    """A stream while this connection carries it."""

    number: int
    stream: Stream
    live: bool = False  # both OPENs have passed
    credit: int = 0  # what the peer still takes from us
    granted: int = 0  # what we still take from the peer
    owed_frames: int = 0  # received and not yet acknowledged (W11)
    owed_bytes: int = 0
    cancels: list[int] = field(default_factory=list)


def _brief(text: str) -> str:
    """An ERROR's text: a byte each character, and not many."""
    return text.encode("ascii", "replace")[:TEXT_BYTES_MAX].decode("ascii")


class Connection:
    """One end of one connection. `find` gives the cell the stream of a name, or raises `StreamEnded`."""

    def __init__(
        self, role: Role, identity: bytes, limits: Limits, find: Find | None = None, *, tap: Tap | None = None
    ) -> None:
        self.role: Final = role
        self.state = State.GREETING
        self._limits: Final = limits
        self._find: Final = find
        self._tap: Final = tap
        self._decoder: Final = Decoder(ADMITTED[State.GREETING, role])
        self._lanes: Final[dict[int, _Lane]] = {}
        self._turn: Final[deque[_Lane]] = deque()  # whose turn it is to send, so that no stream starves
        self._replies: Final[deque[Message]] = deque()
        self._told: list[Event] = []  # what the caller has not been handed yet
        self._sent_frames = 0
        self._highest = 0  # stream numbers only grow on a connection (W8)
        self._replies.append(Hello(VERSION, VERSION, identity))

    @classmethod
    def for_host(cls, identity: bytes, limits: Limits, tap: Tap | None = None) -> Connection:
        return cls(Role.HOST, identity, limits, tap=tap)

    @classmethod
    def for_cell(cls, identity: bytes, limits: Limits, find: Find) -> Connection:
        return cls(Role.CELL, identity, limits, find)

    @property
    def closed(self) -> bool:
        return self.state is State.CLOSED

    @property
    def held_bytes(self) -> int:
        """Bytes of a frame that is not complete: the edge, which has a clock, bounds how long."""
        return self._decoder.held_bytes

    @property
    def received_frames(self) -> int:
        return self._decoder.frames

    def carries(self, stream: Stream) -> bool:
        return self._lane_of(stream) is not None

    # -- asked by our side

    def attach(self, stream: Stream) -> None:
        """The host: carry `stream` on this connection. Needs the greeting to have passed."""
        if self.role is not Role.HOST or self.state is not State.READY:
            raise LocalProtocolError("only a host attaches a stream, once greeted")
        self._highest += 1
        lane = _Lane(self._highest, stream)
        self._lanes[lane.number] = lane
        lane.cancels = sorted(stream.cancelled)
        self._open(lane)

    def cancel(self, stream: Stream, position: int) -> None:
        """The host: stop answering `position`. Repeated on every connection until the position has ended."""
        stream.cancelled.add(position)
        lane = self._lane_of(stream)
        if lane is not None:
            lane.cancels.append(position)

    def ping(self, token: int) -> None:
        self._replies.append(Ping(token, False))

    def detach(self, stream: Stream, code: Code, text: str) -> None:
        """Stop carrying one stream and tell the peer why."""
        lane = self._lane_of(stream)
        if lane is not None:
            self._drop(lane)
            self._replies.append(Error(lane.number, code, _brief(text)))

    def leave(self) -> None:
        """Nothing more will be sent after this."""
        self._close(Bye())

    def refuse(self, refusal: RemoteProtocolError) -> list[Event]:
        """The edge found the peer at fault (too slow, no room): say so and end."""
        if self.closed:
            return []
        self._close(Error(0, refusal.code, _brief(f"expected {refusal.expected}, got {refusal.got}")))
        return [Left(refusal)]

    # -- bytes in

    def room(self) -> memoryview:
        """Where the edge receives to, so that bytes are where they are needed from the start."""
        return self._decoder.room()

    def filled(self, count: int) -> list[Event]:
        """Everything that follows from `count` bytes put into `room()`. Never raises for what the peer sent."""
        if not self.closed:
            self._decoder.filled(count)
            self._read()
        return self._told_so_far()

    def receive(self, data: bytes | memoryview) -> list[Event]:
        """The same for bytes that lie elsewhere."""
        rest = memoryview(data)
        while rest and not self.closed:
            room = self.room()
            count = min(len(room), len(rest))
            room[:count] = rest[:count]
            rest = rest[count:]
            self._decoder.filled(count)
            self._read()
        return self._told_so_far()

    def _read(self) -> None:
        try:
            while not self.closed and (message := self._decoder.next_message()) is not None:
                if self._tap is not None:
                    self._tap(False, message)
                self._on(message)
        except RemoteProtocolError as refusal:
            self._told.extend(self.refuse(refusal.with_traceback(None)))  # which would keep this buffer alive

    def _told_so_far(self) -> list[Event]:
        told, self._told = self._told, []
        return told

    def _on(self, message: Message) -> None:
        match message:
            case Data() | Ack() | Credit() | Cancel():
                lane = self._live_lane(message.stream)
                if lane is not None:
                    self._on_lane(lane, message)
            case Open():
                self._on_open(message)
            case Hello():
                self._on_hello(message)
            case Ping(token, reply):
                self._on_ping(token, reply)
            case Error():
                self._on_error(message)
            case Bye():
                self._enter(State.CLOSED)
                self._told.append(Left(None))
            case _:
                assert_never(message)

    def _on_lane(self, lane: _Lane, message: Data | Ack | Credit | Cancel) -> None:
        match message:
            case Data():
                self._on_data(lane, message)
            case Ack(_, received):
                if lane.stream.sending.acknowledge(received):
                    self._told.append(Released(lane.stream))
            case Credit(_, bytes_more):
                self._on_credit(lane, bytes_more)
            case Cancel(_, position):
                self._told.append(CancelAsked(lane.stream, position))
            case _:
                assert_never(message)

    def _on_hello(self, hello: Hello) -> None:
        if not hello.lowest <= VERSION <= hello.highest:
            got = f"{hello.lowest} to {hello.highest}"
            raise RemoteProtocolError(Code.VERSION, expected=f"version {VERSION}", got=got)
        self._enter(State.READY)
        self._told.append(Greeted(hello.identity))

    def _on_open(self, message: Open) -> None:
        lane = self._answered_lane(message) if self.role is Role.HOST else self._accept_lane(message)
        if lane is not None:
            self._begin(lane, message)

    def _answered_lane(self, message: Open) -> _Lane | None:
        lane = self._lanes.get(message.stream)
        if lane is None and 1 <= message.stream <= self._highest:
            return None  # we gave it up meanwhile
        if lane is None or lane.live or lane.stream.name != message.name:
            raise RemoteProtocolError(Code.NO_STREAM, expected="an answer to our OPEN", got=message.stream)
        return lane

    def _accept_lane(self, message: Open) -> _Lane | None:
        if message.stream <= self._highest:
            raise RemoteProtocolError(Code.UNEXPECTED, expected="a new stream number", got=message.stream)
        self._highest = message.stream
        if any(lane.stream.name == message.name for lane in self._lanes.values()):
            raise RemoteProtocolError(
                Code.UNEXPECTED, expected="a stream not open here", got=f"{message.name!r}, which is open"
            )
        if len(self._lanes) >= self._limits.streams_per_connection_max:
            expected = f"at most {self._limits.streams_per_connection_max} streams"
            raise RemoteProtocolError(Code.STREAMS, expected=expected, got=f"{len(self._lanes) + 1} streams")
        if self._find is None:
            raise LocalProtocolError("a cell's connection needs a way to find streams")
        try:
            stream = self._find(message.name, self)
        except StreamEnded as ended:
            self._refuse_stream(message.stream, ended)
            return None
        lane = self._lanes[message.stream] = _Lane(message.stream, stream)
        return lane

    def _begin(self, lane: _Lane, message: Open) -> None:
        """Both ends know how far the other has come: the streams flow from there (W10)."""
        try:
            lane.stream.sending.resume(message.received)
        except StreamEnded as ended:
            self._drop(lane)
            self._refuse_stream(lane.number, ended)
            self._told.append(Detached(lane.stream, ended.code, ended.text))
            return
        lane.credit = message.credit
        lane.live = True
        if self.role is Role.CELL:
            self._open(lane)
        self._turn.append(lane)
        self._told.append(Attached(lane.stream))
        self._told.append(Released(lane.stream))

    def _on_data(self, lane: _Lane, frame: Data) -> None:
        cost = frame_cost(len(frame.payload))
        if cost > lane.granted:
            raise RemoteProtocolError(Code.CREDIT, expected=f"at most {lane.granted} bytes", got=cost)
        if self.role is Role.HOST and frame.position >= lane.stream.sending.position:
            raise RemoteProtocolError(Code.SEQUENCE, expected="an answer to what was asked", got=frame.position)
        lane.stream.receiving.accept(frame)
        lane.granted -= cost
        lane.owed_frames += 1
        lane.owed_bytes += cost
        self._told.append(Arrived(lane.stream, frame))

    def _on_credit(self, lane: _Lane, bytes_more: int) -> None:
        if lane.credit + bytes_more > CREDIT_BYTES_MAX:
            raise RemoteProtocolError(
                Code.CREDIT, expected=f"at most {CREDIT_BYTES_MAX} outstanding", got=f"{lane.credit + bytes_more}"
            )
        lane.credit += bytes_more

    def _on_ping(self, token: int, reply: bool) -> None:
        if reply:
            self._told.append(Ponged(token))
        else:
            self._reply(Ping(token, True))

    def _on_error(self, error: Error) -> None:
        if error.stream == 0:
            self._enter(State.CLOSED)
            # What the peer wrote about us is for people; its text is bounded and its own.
            got = f"refused by the peer: {error.text!r}"
            self._told.append(Left(RemoteProtocolError(error.code, expected="to go on", got=got)))
            return
        lane = self._lanes.get(error.stream)
        if lane is None and error.stream > self._highest:
            raise RemoteProtocolError(Code.NO_STREAM, expected="a stream opened here", got=error.stream)
        if lane is not None:  # else: it crossed with our own
            self._drop(lane)
            self._told.append(Detached(lane.stream, error.code, error.text))

    # -- bytes out

    def gather(self) -> bytes:
        """What may be sent now: replies, what every lane owes, frames in turn until `gather_bytes_max`, cancels.

        Empty when there is nothing; shorter than `gather_bytes_max` when that was all.
        """
        out = [self._encoded(reply) for reply in self._replies]
        self._replies.clear()
        if self.state is State.READY:
            for lane in self._turn:
                out.extend(self._encoded(owed) for owed in self._owed(lane))
            self._gather_frames(out)
            for lane in self._turn:
                if lane.cancels:
                    out.extend(self._encoded(cancel) for cancel in self._ripe_cancels(lane))
        return out[0] if len(out) == 1 else b"".join(out)

    def _encoded(self, message: Message) -> bytes:
        if self._tap is not None:
            self._tap(True, message)
        frame = encode(message, self._sent_frames)
        self._sent_frames += 1
        return frame

    def _owed(self, lane: _Lane) -> Iterator[Ack | Credit]:
        """What the peer must be told before it can go on, or so that it can let go."""
        stream = lane.stream
        if lane.owed_frames >= self._limits.ack_frames or lane.owed_bytes >= self._limits.ack_bytes:
            lane.owed_frames = lane.owed_bytes = 0
            yield Ack(lane.number, stream.receiving.received)
        grantable = stream.receiving.room_bytes - lane.granted
        # W13: often enough that the peer never waits for room that exists, rarely enough to cost little.
        worthwhile = grantable >= self._limits.window_bytes // 8 or lane.granted < self._limits.window_bytes // 2
        if grantable > 0 and worthwhile:
            lane.granted += grantable
            yield Credit(lane.number, grantable)

    @staticmethod
    def _ripe_cancels(lane: _Lane) -> list[Cancel]:
        """W14: a cell forgets a cancel for what it does not know, so none goes ahead of its item."""
        ripe = [position for position in lane.cancels if lane.stream.sending.has_sent(position)]
        lane.cancels = [position for position in lane.cancels if position not in ripe]
        return [Cancel(lane.number, position) for position in ripe if position in lane.stream.cancelled]

    def _gather_frames(self, out: list[bytes]) -> None:
        """One frame of each lane in turn, so that no stream starves another."""
        size, passed = 0, 0
        while size < self._limits.gather_bytes_max and passed < len(self._turn):
            lane = self._turn[0]
            self._turn.rotate(-1)
            frame = lane.stream.sending.next_frame(lane.credit)
            if frame is None:
                passed += 1
                continue
            passed = 0
            lane.credit -= frame_cost(len(frame.payload))
            if self._tap is not None:
                self._tap(True, replace(frame, stream=lane.number))
            out.append(encode_data(frame, lane.number, self._sent_frames))
            self._sent_frames += 1
            size += len(out[-1])

    # -- lanes

    def _open(self, lane: _Lane) -> None:
        stream = lane.stream
        lane.granted = stream.receiving.room_bytes
        lane.owed_frames = stream.receiving.received  # perhaps: a first ACK settles it
        self._reply(Open(lane.number, stream.name, stream.receiving.received, lane.granted))

    def _live_lane(self, number: int) -> _Lane | None:
        """The lane a frame is for, or None if it was given up meanwhile and the frame crossed with that."""
        lane = self._lanes.get(number)
        if lane is None and number <= self._highest:
            return None
        if lane is None or not lane.live:
            raise RemoteProtocolError(Code.NO_STREAM, expected="a stream open here", got=number)
        return lane

    def _lane_of(self, stream: Stream) -> _Lane | None:
        return next((lane for lane in self._lanes.values() if lane.stream is stream), None)

    def _drop(self, lane: _Lane) -> None:
        self._lanes.pop(lane.number, None)
        if lane in self._turn:
            self._turn.remove(lane)

    def _refuse_stream(self, number: int, ended: StreamEnded) -> None:
        self._reply(Error(number, ended.code, _brief(ended.text)))

    def _reply(self, message: Message) -> None:
        """Answer the peer, unless it has left too many answers unread: what it can make us hold is bounded."""
        if len(self._replies) >= REPLIES_WAITING_MAX:
            raise RemoteProtocolError(
                Code.BUSY, expected="answers to be read", got=f"{len(self._replies)} unread answers"
            )
        self._replies.append(message)

    def _close(self, last: Message) -> None:
        if not self.closed:
            self._enter(State.CLOSED)
            self._replies.append(last)

    def _enter(self, state: State) -> None:
        self.state = state
        self._decoder.admitted = ADMITTED[state, self.role]
