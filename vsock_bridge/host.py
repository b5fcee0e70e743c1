"""The host's library: give items to a port of the cell, hear the answers, survive every cut in between.

    async with Host(Address.parse("unix:/run/cell.sock"), Port.STREAM) as host:
        exchange = await host.submit(item)
        async for piece in exchange:
            ...

A cut is not seen by the caller: the host reconnects, both ends say how far they have come, and the streams go
on. What ends an exchange early is a cell that forgot the stream (it restarted, or needed the room): `StreamEnded`.
"""

from __future__ import annotations

import asyncio
import secrets
import threading
from collections import deque
from collections.abc import AsyncIterator, Callable, Coroutine
from dataclasses import dataclass
from typing import Any, Final, Self, TypeVar, assert_never

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
from vsock_bridge.errors import Code, ConnectFailed, StreamEnded
from vsock_bridge.limits import IDENTITY_BYTES, NAME_BYTES, Limits, frame_cost
from vsock_bridge.messages import Data, Mark, Message
from vsock_bridge.ports import Port
from vsock_bridge.streams import Stream, chunks
from vsock_bridge.transport import Address

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Patience:
    """How often to try again and when to give up."""

    first_seconds: float = 0.02
    most_seconds: float = 1.0
    total_seconds: float = 30.0     # without a greeting; then every exchange ends with ConnectFailed


class Exchange:
    """One item and its answer. Iterate for the pieces as they come, or `read` the whole."""

    def __init__(self, host: Host, stream: Stream, position: int) -> None:
        self.position: Final = position
        self.outcome: Mark | None = None
        self._host: Final = host
        self._stream: Final = stream
        self._frames: Final[deque[Data]] = deque()
        self._news: Final = asyncio.Event()
        self._failure: Exception | None = None

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self._pieces()

    async def _pieces(self) -> AsyncIterator[bytes]:
        while self.outcome is None or self._frames:
            if not self._frames:
                if self._failure is not None:
                    raise self._failure
                self._news.clear()
                await self._news.wait()
                continue
            frame = self._frames.popleft()
            self._host._taken(self._stream, frame)  # noqa: SLF001  # the two are one thing in two classes
            if frame.payload:
                yield frame.payload

    async def read(self) -> bytes:
        """The whole answer. Look at `outcome` for how it ended."""
        return b"".join([piece async for piece in self])

    def cancel(self) -> None:
        """Ask the cell to stop; the exchange still ends, with CANCELLED unless it was too late."""
        if self.outcome is None and self._failure is None:
            self._host._cancel(self._stream, self.position)  # noqa: SLF001

    def arrived(self, frame: Data) -> None:
        self._frames.append(frame)
        if frame.mark is not Mark.MORE:
            self.outcome = frame.mark
        self._news.set()

    def failed(self, reason: Exception) -> None:
        self._failure = reason
        self._news.set()


class Host:
    """A host's end of one port. One stream at a time; open several hosts for several."""

    def __init__(
        self, address: Address, port: Port, limits: Limits | None = None, patience: Patience | None = None
    ) -> None:
        self._address: Final = address
        self._port: Final = port
        self._limits: Final = limits or Limits()
        self._patience: Final = patience or Patience()
        self._identity: Final = secrets.token_bytes(IDENTITY_BYTES)
        self._cell: bytes | None = None
        self._stream = self._new_stream()
        self._exchanges: dict[int, Exchange] = {}
        self._edge: Edge | None = None
        self._submitting: Final = asyncio.Lock()
        self._room: Final = asyncio.Event()
        self._attached: Final = asyncio.Event()
        self._lost: Final = asyncio.Event()
        self._pongs: Final[deque[asyncio.Future[None]]] = deque()
        self._failure: Exception | None = None
        self._keeping: asyncio.Task[None] | None = None
        self.cuts = 0
        self.tap: Callable[[bool, Message], None] | None = None     # shown every message; True on the way out

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *reason: object) -> None:
        await self.close()

    async def start(self) -> None:
        """Connect for the first time. Raises `ConnectFailed`, and only then is there nothing to close."""
        self._keeping = asyncio.get_running_loop().create_task(self._keep())
        attached = asyncio.ensure_future(self._attached.wait())
        await asyncio.wait({attached, self._keeping}, return_when=asyncio.FIRST_COMPLETED)
        attached.cancel()
        if self._failure is not None:
            raise self._failure

    async def close(self) -> None:
        if self._keeping is not None:
            self._keeping.cancel()
            await asyncio.gather(self._keeping, return_exceptions=True)
        if self._edge is not None:
            self._edge.leave()
        self._end_all(StreamEnded(Code.TIMEOUT, "the host has closed this"))

    # -- what a caller asks

    async def submit(self, item: bytes) -> Exchange:
        """Send one item. Waits while the cell has no room for it."""
        if len(item) > self._limits.item_bytes_max:
            raise ValueError(f"an item holds at most {self._limits.item_bytes_max} bytes, got {len(item)}")
        async with self._submitting:
            self._raise_failure()
            stream = self._stream
            exchange = Exchange(self, stream, stream.sending.position)
            self._exchanges[exchange.position] = exchange
            for mark, payload in chunks(item, self._limits.chunk_bytes):
                while not stream.sending.has_room(len(payload)) and stream is self._stream:
                    self._room.clear()
                    await self._room.wait()
                    self._raise_failure()
                if stream is not self._stream:
                    return exchange         # it has failed meanwhile, and says so
                stream.sending.push(mark, payload)
                self._flush()
            return exchange

    async def ask(self, item: bytes) -> bytes:
        """Submit and read: for short questions. Raises `StreamEnded` unless the answer ended well."""
        exchange = await self.submit(item)
        answer = await exchange.read()
        if exchange.outcome is not Mark.END:
            said = answer.decode("ascii", "replace")[:40] if exchange.outcome is Mark.FAILED else "cancelled"
            raise StreamEnded(Code.UNEXPECTED, f"expected an answer, got {said!r}")
        return answer

    async def ping(self) -> None:
        """Return when the cell has answered on the present connection."""
        await self._attached.wait()
        edge = self._edge
        if edge is None:
            raise ConnectFailed("ping: expected a connection, got none")
        pong = asyncio.get_running_loop().create_future()
        self._pongs.append(pong)
        edge.connection.ping(1)
        edge.flush()
        await pong

    def cut(self) -> None:
        """Drop the connection as a failing network would. Nothing is lost by it; for trying just that."""
        if self._edge is not None:
            self._edge.cut()

    # -- what exchanges ask

    def _taken(self, stream: Stream, frame: Data) -> None:
        stream.receiving.taken(frame_cost(len(frame.payload)))
        if stream is self._stream:
            self._flush()

    def _cancel(self, stream: Stream, position: int) -> None:
        if stream is not self._stream:
            return
        stream.cancelled.add(position)
        if self._edge is not None:
            self._edge.connection.cancel(stream, position)
            self._edge.flush()

    # -- keeping a connection

    async def _keep(self) -> None:
        """Connect, wait until it is lost, connect again; give up when patience has run out."""
        loop = asyncio.get_running_loop()
        pause, last_good = self._patience.first_seconds, loop.time()
        try:
            while True:
                self._lost.clear()
                try:
                    await transport.connect(self._address, self._port, self._new_edge)
                    await self._watch()
                except ConnectFailed as reason:
                    self._edge = None
                    if loop.time() - last_good > self._patience.total_seconds or not self._ever_greeted:
                        self._fail(reason)
                        return
                if self._attached.is_set():
                    pause, last_good = self._patience.first_seconds, loop.time()
                    self._attached.clear()
                self.cuts += 1
                await asyncio.sleep(pause)
                pause = min(2 * pause, self._patience.most_seconds)
        finally:
            self._attached.clear()

    @property
    def _ever_greeted(self) -> bool:
        return self._cell is not None

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
        connection = Connection.for_host(self._identity, self._limits)
        connection.tap = self.tap
        self._edge = Edge(connection, self._limits, self._on_events, self._on_lost)
        return self._edge

    def _on_events(self, edge: Edge, events: list[Event]) -> None:
        for event in events:
            self._on_event(edge, event)

    def _on_event(self, edge: Edge, event: Event) -> None:
        match event:
            case Arrived(_, frame):
                self._on_frame(frame)
            case Released():
                self._room.set()
            case Greeted(identity):
                self._on_greeted(edge, identity)
            case Attached():
                self._attached.set()
            case Detached(stream, code, text):
                self._on_detached(edge, stream, StreamEnded(code, text))
            case Ponged():
                if self._pongs:
                    self._pongs.popleft().set_result(None)
            case Left():
                self._lost.set()
            case CancelAsked():
                raise AssertionError("a cell cannot ask this: the tables of the connection refuse it")
            case _:
                assert_never(event)

    def _on_frame(self, frame: Data) -> None:
        self._exchanges[frame.position].arrived(frame)
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
        if reason.code is Code.STREAMS:
            edge.leave()            # no room at present: come back later, not at once
        elif not edge.connection.closed:
            edge.connection.attach(self._stream)

    def _on_lost(self, edge: Edge) -> None:
        if edge is self._edge:
            self._edge = None
            for pong in self._pongs:
                pong.set_exception(ConnectFailed("ping: expected an answer, got a cut"))
            self._pongs.clear()
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
        self._failure = reason
        self._end_all(reason)

    def _raise_failure(self) -> None:
        if self._failure is not None:
            raise self._failure

    def _flush(self) -> None:
        if self._edge is not None:
            self._edge.flush_soon()


class SyncHost:
    """The same for code without an event loop: `ask` blocks, `stream` yields the pieces as they come."""

    def __init__(self, address: Address, port: Port, limits: Limits | None = None) -> None:
        self._loop: Final = asyncio.new_event_loop()
        self._thread: Final = threading.Thread(target=self._loop.run_forever, name="anchorhold-host", daemon=True)
        self._thread.start()
        try:
            self._host = self._do(self._make(address, port, limits))
        except BaseException:
            self._stop()
            raise

    def ask(self, item: bytes) -> bytes:
        return self._do(self._host.ask(item))

    def stream(self, item: bytes) -> Any:
        """The pieces of the answer, one by one."""
        exchange = self._do(self._host.submit(item))
        pieces = aiter(exchange)
        while (piece := self._do(_next_or_none(pieces))) is not None:
            yield piece

    def ping(self) -> None:
        self._do(self._host.ping())

    def close(self) -> None:
        self._do(self._host.close())
        self._stop()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *reason: object) -> None:
        self.close()

    @staticmethod
    async def _make(address: Address, port: Port, limits: Limits | None) -> Host:
        host = Host(address, port, limits)
        await host.start()
        return host

    def _do(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()

    def _stop(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


async def _next_or_none(pieces: AsyncIterator[bytes]) -> bytes | None:
    return await anext(pieces, None)
