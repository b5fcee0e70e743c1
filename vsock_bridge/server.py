"""The cell's side on asyncio: one server, three ports, a service behind each.

A service gets one item of a stream at a time, in order, and answers it through an `Answer`; items of different
streams run side by side. Whatever a service does, every item is ended exactly once: END when it returns,
CANCELLED when the host asked, FAILED when it raised. The text of an exception never travels.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final, Protocol, Self, assert_never

from vsock_bridge import transport
from vsock_bridge.cell import CellStream, CellStreams, Item
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
    State,
)
from vsock_bridge.edge import Edge
from vsock_bridge.errors import BridgeError, Code, LocalProtocolError, RemoteProtocolError
from vsock_bridge.limits import FAILED_CODE_BYTES_MAX, IDENTITY_BYTES, Limits
from vsock_bridge.messages import Mark
from vsock_bridge.ports import PORT_LIMITS, Port
from vsock_bridge.streams import chunks
from vsock_bridge.transport import Address, Listener


class Failed(BridgeError):
    """A service could not answer. `code` is a short word for the host; nothing else is told."""

    def __init__(self, code: str) -> None:
        if not code.isascii() or len(code) > FAILED_CODE_BYTES_MAX:
            raise LocalProtocolError(f"a failure's code is a short ASCII word, got {len(code)} characters")
        super().__init__(code)
        self.code = code


class Service(Protocol):
    """What stands behind a port."""

    async def serve(self, item: bytes, answer: Answer) -> None: ...


@dataclass(slots=True)
class Counters:
    """Aggregate figures of a port: safe to show, since they count and never quote."""

    connections: int = 0
    refused: int = 0
    items: int = 0
    failed: int = 0
    cancelled: int = 0
    evicted: int = 0


class Answer:
    """Where a service puts what it has to say about one item."""

    def __init__(self, worker: _Worker, position: int) -> None:
        self._worker: Final = worker
        self._position: Final = position
        self.ended = False

    async def send(self, payload: bytes) -> None:
        """Say something, of any length. Waits while the host takes nothing: memory is bounded, patience is not."""
        for _, piece in chunks(payload, self._worker.chunk_bytes):
            await self._push(Mark.MORE, piece)

    async def end(self, payload: bytes = b"") -> None:
        """Say the last thing. Without this, an empty end is sent when the service returns."""
        for mark, piece in chunks(payload, self._worker.chunk_bytes):
            await self._push(mark, piece)
        self.ended = True

    async def _push(self, mark: Mark, payload: bytes) -> None:
        if self._worker.held.running != self._position:
            raise LocalProtocolError("an answer that has ended takes nothing more")
        await self._worker.push(mark, payload)


class _Worker:
    """Runs the items of one stream, one after the other, for as long as the port remembers the stream.

    The service runs in the worker's own task. A host that cancels is a `cancel` of that task which is taken back
    once the service has ended of it; what is left then is the worker's own end.
    """

    def __init__(
        self,
        held: CellStream,
        service: Service,
        counters: Counters,
        chunk_bytes: int,
        *,
        flush: Callable[[CellStream], None],
    ) -> None:
        self.held: Final = held
        self.chunk_bytes: Final = chunk_bytes
        self._service: Final = service
        self._counters: Final = counters
        self._flush: Final = flush
        self._wake: Final = asyncio.Event()
        self._room: Final = asyncio.Event()
        self._serving = False
        self._cancelled = False  # the host asked, and the service has not ended of it yet
        self._task: asyncio.Task[None] | None = asyncio.get_running_loop().create_task(self._run())

    def wake(self) -> None:
        self._wake.set()

    def released(self) -> None:
        self._room.set()

    def cancel_running(self) -> None:
        if self._serving and not self._cancelled and self._task is not None:
            self._cancelled = True
            self._task.cancel()

    async def stop(self) -> None:
        """Ends the service wherever it is. Lets go of the task, whose traceback would keep the stream alive."""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def push(self, mark: Mark, payload: bytes) -> None:
        while not self.held.stream.sending.has_room(len(payload)):
            self._room.clear()
            await self._room.wait()
        self.held.answer(mark, payload)
        self._flush(self.held)

    async def _run(self) -> None:
        while True:
            item = self.held.take()
            if item is None:
                self._wake.clear()
                await self._wake.wait()
                continue
            self._flush(self.held)  # its room is granted again
            self._counters.items += 1
            answer = Answer(self, item.position)
            mark, payload = (Mark.CANCELLED, b"") if item.cancelled else await self._serve(item, answer)
            if not answer.ended:
                self._counters.cancelled += mark is Mark.CANCELLED
                self._counters.failed += mark is Mark.FAILED
                await self.push(mark, payload)

    async def _serve(self, item: Item, answer: Answer) -> tuple[Mark, bytes]:
        """How the item ends, unless the service has said so itself."""
        self._serving = True
        try:
            await self._service.serve(item.payload, answer)
        except asyncio.CancelledError:
            asked = self._withdrawn()
            if _is_being_stopped():
                raise
            return (Mark.CANCELLED, b"") if asked else (Mark.FAILED, b"internal")  # it cancelled itself, in effect
        except Exception as reason:  # noqa: BLE001  # whatever it was: the item failed, and why is not for the host
            self._withdrawn()
            return Mark.FAILED, (reason.code if isinstance(reason, Failed) else "internal").encode("ascii")
        finally:
            self._serving = False
        self._withdrawn()
        return Mark.END, b""

    def _withdrawn(self) -> bool:
        """Take the host's cancellation back, if there was one."""
        asked, self._cancelled = self._cancelled, False
        task = asyncio.current_task()
        if asked and task is not None:
            task.uncancel()
        return asked


def _is_being_stopped() -> bool:
    """Somebody but the host wants the present task to end."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


class PortServer:
    """One port: its connections, its streams, its workers."""

    def __init__(self, service: Service, limits: Limits, identity: bytes) -> None:
        self._service: Final = service
        self._limits: Final = limits
        self._identity: Final = identity
        self._streams: Final = CellStreams(limits, self._on_evicted)
        self._workers: Final[dict[CellStream, _Worker]] = {}
        self._edges: Final[dict[Connection, Edge]] = {}  # oldest first
        self._stopping: Final[set[asyncio.Task[None]]] = set()
        self.counters: Final = Counters()

    @property
    def open_connections(self) -> int:
        return len(self._edges)

    def accept(self) -> Edge:
        """The protocol of a new connection. If there are too many, the oldest that is not at work gives way."""
        connection = Connection.for_cell(self._identity, self._limits, self._streams.find)
        edge = Edge(connection, self._limits, self._on_events, self._on_lost)
        self.counters.connections += 1
        if len(self._edges) >= self._limits.connections_max:
            idlers = (other for other in self._edges.values() if other.connection.state is not State.READY)
            self._turn_away(next(idlers, edge))
        self._edges[connection] = edge
        return edge

    def sweep(self, now: float) -> None:
        for edge in tuple(self._edges.values()):
            edge.swept(now)

    async def close(self) -> None:
        edges = tuple(self._edges.values())
        for edge in edges:
            edge.leave()
            edge.let_go()
        await asyncio.gather(*(worker.stop() for worker in self._workers.values()), *self._stopping)
        await asyncio.gather(*(edge.gone.wait() for edge in edges))

    # -- what connections tell

    def _on_events(self, edge: Edge, events: list[Event]) -> None:
        refusal = None
        for event in events:
            try:
                self._on_event(edge, event)
            except RemoteProtocolError as reason:  # an item too large shows only when it is put together;
                refusal = reason.with_traceback(None)  # what else has arrived was received and must not be lost
        if refusal is not None:
            edge.refuse(refusal)

    def _on_event(self, edge: Edge, event: Event) -> None:
        match event:
            case Arrived(stream, frame):
                held = self._streams.of(stream)
                if held.arrived(frame):
                    self._workers[held].wake()
            case Released(stream):
                self._worker(self._streams.of(stream)).released()
            case CancelAsked(stream, position):
                held = self._streams.of(stream)
                if held.cancel(position):
                    self._workers[held].cancel_running()
            case Attached(stream):
                self._worker(self._streams.of(stream))
                self._flush_others(edge)  # one of them may have lost this stream and must say so
            case Detached(stream):
                self._streams.detached(stream, edge.connection)
            case Left(refusal):
                self.counters.refused += refusal is not None
                self._streams.released(edge.connection)
            case Greeted() | Ponged():
                pass
            case _:
                assert_never(event)

    def _on_lost(self, edge: Edge) -> None:
        self._edges.pop(edge.connection, None)
        self._streams.released(edge.connection)

    def _turn_away(self, edge: Edge) -> None:
        """Tell it if that goes out at once; it does not keep its place until it has read that."""
        edge.refuse(RemoteProtocolError(Code.BUSY, expected="a free place", got="none"))
        edge.let_go()

    # -- workers

    def _worker(self, held: CellStream) -> _Worker:
        worker = self._workers.get(held)
        if worker is None:
            worker = self._workers[held] = _Worker(
                held, self._service, self.counters, self._limits.chunk_bytes, flush=self._flush
            )
        return worker

    def _on_evicted(self, held: CellStream) -> None:
        self.counters.evicted += 1
        worker = self._workers.pop(held, None)
        if worker is not None:
            stopping = asyncio.get_running_loop().create_task(worker.stop())
            self._stopping.add(stopping)
            stopping.add_done_callback(self._stopping.discard)

    def _flush(self, held: CellStream) -> None:
        edge = self._edges.get(held.carrier) if held.carrier is not None else None
        if edge is not None:
            edge.flush_soon()

    def _flush_others(self, edge: Edge) -> None:
        for other in self._edges.values():
            if other is not edge:
                other.flush_soon()


class CellServer:
    """The window: every port of `services` at one address, under one identity that is new at every start.

    Each port has the limits of its kind; `limits` puts others in place of all of them.
    """

    def __init__(self, services: Mapping[Port, Service], limits: Limits | None = None) -> None:
        self.identity: Final = secrets.token_bytes(IDENTITY_BYTES)
        self.ports: Final = {
            port: PortServer(service, limits or PORT_LIMITS[port], self.identity) for port, service in services.items()
        }
        self._sweep_seconds: Final = min((limits or PORT_LIMITS[port]).sweep_seconds for port in services)
        self._listener: Listener | None = None
        self._sweeping: asyncio.TimerHandle | None = None

    async def start(self, address: Address) -> None:
        self._listener = await transport.listen(address, {port: server.accept for port, server in self.ports.items()})
        self._sweep()

    async def close(self) -> None:
        """Stop accepting, say goodbye, stop the services."""
        if self._sweeping is not None:
            self._sweeping.cancel()
        if self._listener is not None:
            await self._listener.close()
        for server in self.ports.values():
            await server.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *reason: object) -> None:
        await self.close()

    def _sweep(self) -> None:
        loop = asyncio.get_running_loop()
        for server in self.ports.values():
            server.sweep(loop.time())
        self._sweeping = loop.call_later(self._sweep_seconds, self._sweep)
