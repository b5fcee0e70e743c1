"""The host's library: send items to a port of the cell, receive the answers, survive broken connections.

    async with Host(Address.parse("unix:/run/cell.sock"), Port.STREAM) as host:
        exchange = await host.submit(item)
        async for piece in exchange:
            ...

A cut is not seen by the caller: the host reconnects, both ends say how far they have come, and the streams go
on. What ends an exchange early is a cell that forgot the stream (it restarted, or needed the room): `StreamEnded`.
"""

from __future__ import annotations

import asyncio
import itertools
import secrets
from collections import deque
from dataclasses import dataclass
from typing import Final, Self, TypeVar, assert_never

from vsock_bridge import transport
from vsock_bridge.connection import (
    Arrived,
    Attached,
    CancelAsked,
    Connection,
    Detached,
    Event,
    Greeted,
    Left,
    Ponged,
    Released,
)
from vsock_bridge.edge import Edge
from vsock_bridge.errors import Code, ConnectFailed, RemoteProtocolError, StreamEnded
from vsock_bridge.limits import IDENTITY_BYTES, NAME_BYTES, Limits, frame_cost
from vsock_bridge.messages import Data, Mark, Tap
from vsock_bridge.ports import PORT_LIMITS, Port
from vsock_bridge.streams import Stream, chunks
from vsock_bridge.transport import Address

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Patience:
    """How often to try again and when to give up."""

    first_seconds: float = 0.02
    most_seconds: float = 1.0
    total_seconds: float = 30.0  # without a greeting; then every exchange ends with ConnectFailed


class Exchange:
    """One item and its answer. Iterate for the pieces as they come, or `read` the whole.

    What is not read keeps its room, and answers come in order: so read every exchange, or `abandon` it.
    """

    def __init__(self, host: Host, stream: Stream, position: int) -> None:
        self.position: Final = position
        self.outcome: Mark | None = None
        self._host: Final = host
        self._stream: Final = stream
        self._frames: Final[deque[Data]] = deque()
        self._news: Final = asyncio.Event()
        self._failure: Exception | None = None
        self._abandoned = False

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        while True:
            if self._frames:
                if payload := self._take():
                    return payload
            elif self.outcome is not None:
                raise StopAsyncIteration
            elif self._failure is not None:
                raise self._failure
            else:
                self._news.clear()
                await self._news.wait()

    async def read(self) -> bytes:
        """The whole answer. Look at `outcome` for how it ended."""
        return b"".join([piece async for piece in self])

    def cancel(self) -> None:
        """Ask the cell to stop; the exchange still ends, with CANCELLED unless it was too late."""
        if self.outcome is None and self._failure is None:
            self._host._cancel(self._stream, self.position)  # noqa: SLF001  # the two are one thing in two classes

    def abandon(self) -> None:
        """Ask the cell to stop, and let go of all that has come and still comes: nobody will read this."""
        self._abandoned = True
        while self._frames:
            self._take()
        self.cancel()

    def arrived(self, frame: Data) -> None:
        self._frames.append(frame)
        if frame.mark is not Mark.MORE:
            self.outcome = frame.mark
        if self._abandoned:
            self._take()
        self._news.set()

    def failed(self, reason: Exception) -> None:
        self._failure = reason
        self._news.set()

    def _take(self) -> bytes:
        payload = self._frames.popleft().payload
        self._host._taken(self._stream, payload)  # noqa: SLF001
        return payload


class Host:
    """A host's end of one port. One stream at a time; open several hosts for several."""

    def __init__(
        self,
        address: Address,
        port: Port,
        limits: Limits | None = None,
        patience: Patience | None = None,
        *,
        tap: Tap | None = None,
    ) -> None:
        self._address: Final = address
        self._port: Final = port
        self._limits: Final = limits or PORT_LIMITS[port]
        self._patience: Final = patience or Patience()
        self._tap: Final = tap
        self._identity: Final = secrets.token_bytes(IDENTITY_BYTES)
        self._cell: bytes | None = None
        self._stream = self._new_stream()
        self._exchanges: dict[int, Exchange] = {}
        self._edge: Edge | None = None
        self._submitting: Final = asyncio.Lock()
        self._room: Final = asyncio.Event()
        self._attached: Final = asyncio.Event()  # the stream flows, or never will: look at `_failure`
        self._lost: Final = asyncio.Event()
        self._refusal: Exception | None = None  # why the present connection carries nothing
        self._pings: Final[dict[int, asyncio.Future[None]]] = {}
        self._tokens: Final = itertools.count(1)  # 0 is the edge's own
        self._failure: Exception | None = None
        self._keeping: asyncio.Task[None] | None = None
        self.cuts = 0

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *reason: object) -> None:
        await self.close()

    async def start(self) -> None:
        """Connect for the first time. Raises `ConnectFailed`, and only then is there nothing to close."""
        self._keeping = asyncio.get_running_loop().create_task(self._keep())
        try:
            await self._attached.wait()
            self._raise_failure()
        except BaseException:
            await self.close()
            raise

    async def close(self) -> None:
        """Say goodbye and end what is not answered. Waits for nobody."""
        self._fail(StreamEnded(Code.TIMEOUT, "the host has closed this"))
        if self._keeping is not None:
            self._keeping.cancel()
            await asyncio.gather(self._keeping, return_exceptions=True)
        edge = self._edge
        if edge is not None:
            edge.leave()
            edge.let_go()
            await edge.gone.wait()

    # -- what a caller asks

    async def submit(self, item: bytes) -> Exchange:
        """Send one item. Waits while the cell has no room for it.

        Cancelled before its first frame, nothing was sent; after that the item goes out whole, is cancelled at the
        cell, and its answer is let go of: half an item would stand before everything that follows.
        """
        if len(item) > self._limits.item_bytes_max:
            raise ValueError(f"an item holds at most {self._limits.item_bytes_max} bytes, got {len(item)}")
        await self._submitting.acquire()
        pushing = None
        try:
            self._raise_failure()
            stream = self._stream
            exchange = self._exchanges[stream.sending.position] = Exchange(self, stream, stream.sending.position)
            unsent = deque(chunks(item, self._limits.chunk_bytes))
            self._push_what_fits(stream, unsent)
            if unsent:
                pushing = asyncio.get_running_loop().create_task(self._push_rest(stream, unsent))
                pushing.add_done_callback(lambda _: self._submitting.release())
        finally:
            if pushing is None:
                self._submitting.release()
        if pushing is not None:
            try:
                await asyncio.shield(pushing)
            except asyncio.CancelledError:
                exchange.abandon()
                raise
        return exchange

    async def ask(self, item: bytes) -> bytes:
        """Submit and read: for short questions. Raises `StreamEnded` unless the answer ended well."""
        exchange = await self.submit(item)
        try:
            answer = await exchange.read()
        except asyncio.CancelledError:
            exchange.abandon()
            raise
        if exchange.outcome is not Mark.END:
            said = answer.decode("ascii", "replace")[:40] if exchange.outcome is Mark.FAILED else "cancelled"
            raise StreamEnded(Code.UNEXPECTED, f"expected an answer, got {said!r}")
        return answer

    async def ping(self) -> None:
        """Return when the cell has answered on the present connection. Raises `ConnectFailed` if that is cut."""
        await self._attached.wait()
        self._raise_failure()
        edge = self._edge
        if edge is None or edge.connection.closed:
            raise ConnectFailed("ping: expected a connection, got none")
        token = next(self._tokens) & 0xFFFFFFFF
        pong = self._pings[token] = asyncio.get_running_loop().create_future()
        try:
            edge.connection.ping(token)
            edge.flush()
            await pong
        finally:
            del self._pings[token]

    def cut(self) -> None:
        """Drop the connection as a failing network would. Nothing is lost by it; for trying just that."""
        if self._edge is not None:
            self._edge.cut()

    # -- what exchanges ask

    def _taken(self, stream: Stream, payload: bytes) -> None:
        stream.receiving.taken(frame_cost(len(payload)))
        if stream is self._stream:
            self._flush()

    def _cancel(self, stream: Stream, position: int) -> None:
        if stream is not self._stream:
            return
        stream.cancelled.add(position)
        if self._edge is not None:
            self._edge.connection.cancel(stream, position)
            self._edge.flush()

    # -- sending

    def _push_what_fits(self, stream: Stream, unsent: deque[tuple[Mark, bytes]]) -> None:
        while unsent and stream.sending.has_room(len(unsent[0][1])):
            stream.sending.push(*unsent.popleft())
        self._flush()

    async def _push_rest(self, stream: Stream, unsent: deque[tuple[Mark, bytes]]) -> None:
        """Until all has gone or the stream has ended; the exchange knows which."""
        while stream is self._stream and self._failure is None:
            self._push_what_fits(stream, unsent)
            if not unsent:
                break
            self._room.clear()
            await self._room.wait()

    # -- keeping a connection

    async def _keep(self) -> None:
        """Connect, wait until it is lost, connect again; give up when patience has run out."""
        loop = asyncio.get_running_loop()
        pause, last_good = self._patience.first_seconds, loop.time()
        while True:
            reason = await self._live_once()
            if reason is None:
                pause, last_good = self._patience.first_seconds, loop.time()
            elif self._is_hopeless() or loop.time() - last_good > self._patience.total_seconds:
                self._fail(reason)
                return
            self.cuts += 1
            await asyncio.sleep(pause)
            pause = min(2 * pause, self._patience.most_seconds)

    async def _live_once(self) -> ConnectFailed | None:
        """One connection from beginning to end. None if the stream flowed on it, else why it did not."""
        self._lost.clear()
        self._refusal = None
        try:
            await transport.connect(self._address, self._port, self._new_edge)
        except ConnectFailed as reason:
            self._edge, self._refusal = None, reason
            return reason
        await self._watch()
        flowed = self._attached.is_set()
        self._attached.clear()
        if self._edge is not None:
            self._edge.let_go()  # what it still had to say must not hold up the next one
        if flowed:
            return None
        got = self._refusal or "a cut"
        return ConnectFailed(f"connect: expected port {self._port:d} at {self._address} to carry a stream, got {got}")

    def _is_hopeless(self) -> bool:
        """A cell of another version stays one; and an address where nobody ever answered is perhaps wrong."""
        if isinstance(self._refusal, RemoteProtocolError):
            return self._refusal.code is Code.VERSION
        return self._cell is None and isinstance(self._refusal, ConnectFailed)

    async def _watch(self) -> None:
        """Until the connection is lost, look at the clock now and then."""
        edge = self._edge
        while edge is not None and not self._lost.is_set():
            try:
                async with asyncio.timeout(self._limits.sweep_seconds):
                    await self._lost.wait()
            except TimeoutError:
                edge.swept(asyncio.get_running_loop().time())

    def _new_edge(self) -> Edge:
        connection = Connection.for_host(self._identity, self._limits, self._tap)
        self._edge = Edge(connection, self._limits, self._on_events, self._on_lost)
        return self._edge

    def _on_events(self, edge: Edge, events: list[Event]) -> None:
        for event in events:
            self._on_event(edge, event)

    def _on_event(self, edge: Edge, event: Event) -> None:
        match event:
            case Arrived(stream, frame):
                self._on_frame(stream, frame)
            case Released():
                self._room.set()
            case Greeted(identity):
                self._on_greeted(edge, identity)
            case Attached():
                self._attached.set()
            case Detached(stream, code, text):
                self._on_detached(edge, stream, StreamEnded(code, text))
            case Ponged(token):
                pong = self._pings.get(token)
                if pong is not None and not pong.done():
                    pong.set_result(None)
            case Left(refusal):
                self._refusal = refusal
                self._lost.set()
            case CancelAsked():
                raise AssertionError("a cell cannot ask this: the tables of the connection refuse it")
            case _:
                assert_never(event)

    def _on_frame(self, stream: Stream, frame: Data) -> None:
        exchange = self._exchanges.get(frame.position)
        if stream is not self._stream or exchange is None:
            return  # ended on this side meanwhile: given up, or closed
        exchange.arrived(frame)
        if frame.mark is not Mark.MORE:
            self._stream.cancelled.discard(frame.position)
            del self._exchanges[frame.position]

    def _on_greeted(self, edge: Edge, identity: bytes) -> None:
        if self._cell is not None and identity != self._cell:
            self._begin_again(StreamEnded(Code.GAP, "expected the cell as it was, got one that restarted"))
        self._cell = identity
        edge.connection.attach(self._stream)

    def _on_detached(self, edge: Edge, stream: Stream, reason: StreamEnded) -> None:
        if stream is not self._stream:
            return
        self._begin_again(reason)
        self._refusal = reason
        if reason.code is Code.STREAMS:
            edge.leave()  # no room at present: come back later, not at once
        elif not edge.connection.closed:
            edge.connection.attach(self._stream)

    def _on_lost(self, edge: Edge) -> None:
        if edge is self._edge:
            self._edge = None
            for pong in self._pings.values():
                if not pong.done():
                    pong.set_exception(ConnectFailed("ping: expected an answer, got a cut"))
            self._lost.set()

    # -- ends and beginnings

    def _new_stream(self) -> Stream:
        return Stream.of_host(secrets.token_bytes(NAME_BYTES), self._limits)

    def _begin_again(self, reason: StreamEnded) -> None:
        """The cell holds the old stream no longer. What was unanswered ends; what comes next has a new stream."""
        self._end_all(reason)
        self._stream = self._new_stream()

    def _end_all(self, reason: Exception) -> None:
        for exchange in self._exchanges.values():
            exchange.failed(reason)
        self._exchanges = {}
        self._room.set()

    def _fail(self, reason: Exception) -> None:
        """For good. The first reason stands."""
        if self._failure is None:
            self._failure = reason
            self._end_all(reason)
            self._attached.set()

    def _raise_failure(self) -> None:
        if self._failure is not None:
            raise self._failure

    def _flush(self) -> None:
        if self._edge is not None:
            self._edge.flush_soon()
