"""Cells, hosts, services and a wire that can be cut at any byte, for the tests of both edges."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

from vsock_bridge.codec import Decoder, encode
from vsock_bridge.host import Host
from vsock_bridge.limits import Limits
from vsock_bridge.messages import Hello, Message
from vsock_bridge.ports import Port
from vsock_bridge.server import Answer, CellServer, Service
from vsock_bridge.transport import Address

SMALL = Limits(
    window_bytes=16384,
    retained_bytes_max=4096,
    chunk_bytes=512,
    ack_frames=4,
    ack_bytes=2048,
    item_bytes_max=8192,
    streams_max=3,
    streams_per_connection_max=2,
    connections_max=4,
    gather_bytes_max=2048,
)


def host_at(address: str, limits: Limits = SMALL) -> Host:
    return Host(Address.parse(address), Port.STREAM, limits)


@dataclass
class Does:
    """A service that is a function."""

    work: Callable[[bytes, Answer], Awaitable[None]]
    items: list[bytes] = field(default_factory=list)

    async def serve(self, item: bytes, answer: Answer) -> None:
        self.items.append(item)
        await self.work(item, answer)


async def echo(item: bytes, answer: Answer) -> None:
    await answer.end(item)


async def spell(item: bytes, answer: Answer) -> None:
    """One frame a byte."""
    for at in range(len(item)):
        await answer.send(item[at : at + 1])


@asynccontextmanager
async def cell(address: str, service: Service, limits: Limits = SMALL) -> AsyncIterator[CellServer]:
    server = CellServer({Port.STREAM: service}, limits)
    await server.start(Address.parse(address))
    try:
        yield server
    finally:
        await server.close()


class Peer:
    """A host written by hand on a real socket."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer
        self._decoder = Decoder()
        self._counter = 0
        self._said_already = 0
        self._heard: list[Message] = []

    @classmethod
    async def reach(cls, path: Path, *, greet: bool = True) -> Peer:
        peer = cls(*await asyncio.open_unix_connection(path))
        peer.writer.write(b"CONNECT 5000\n")
        assert (await peer.reader.readline()).startswith(b"OK ")
        if greet:
            peer.say(Hello(1, 1, b"x" * 16))
            assert isinstance(await peer.hear(), Hello)
        return peer

    def say(self, *messages: Message) -> None:
        for message in messages:
            self.writer.write(encode(message, self._counter)[self._said_already :])
            self._said_already = 0
            self._counter += 1

    def skip_a_byte(self) -> None:
        """The next frame's first byte was written by hand."""
        self._said_already = 1

    async def hear(self) -> Message | None:
        """The next message, None at the end."""
        while not self._heard:
            data = b""
            with suppress(ConnectionResetError, BrokenPipeError):
                data = await self.reader.read(65536)
            if not data:
                return None
            self._heard += self._decoder.feed(data)
        return self._heard.pop(0)

    async def last(self) -> Message | None:
        """The last message before the end."""
        last = None
        while (message := await self.hear()) is not None:
            last = message
        return last

    async def close(self) -> None:
        self.writer.close()
        with suppress(ConnectionResetError, BrokenPipeError):
            await self.writer.wait_closed()


class CuttingWire:
    """Between hosts and a cell: passes `budgets[n]` bytes on the n-th connection, both ways counted, then cuts it."""

    def __init__(self, front: Path, back: Path, budgets: list[int]) -> None:
        self._front, self._back = front, back
        self._budgets = budgets
        self.connections = 0
        self._tasks: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_unix_server(self._carry, self._front)
        return self

    async def __aexit__(self, *reason: object) -> None:
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _carry(self, host_reader: asyncio.StreamReader, host_writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        budget = [self._budgets[self.connections] if self.connections < len(self._budgets) else 1 << 40]
        self.connections += 1
        cell_reader, cell_writer = await asyncio.open_unix_connection(self._back)
        ways = [
            asyncio.create_task(self._pass(host_reader, cell_writer, budget)),
            asyncio.create_task(self._pass(cell_reader, host_writer, budget)),
        ]
        try:
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for way in ways:
                way.cancel()
            await asyncio.gather(*ways, return_exceptions=True)
            for writer in (host_writer, cell_writer):
                writer.transport.abort()
            self._tasks.discard(task)

    @staticmethod
    async def _pass(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, budget: list[int]) -> None:
        with suppress(ConnectionResetError, BrokenPipeError):
            while budget[0] > 0 and (data := await reader.read(min(4096, budget[0]))):
                budget[0] -= len(data)
                writer.write(data)
                await writer.drain()
