"""The transport inside one process: two asyncio transports joined, with the same back-pressure as a socket.

Listeners are known by name in a registry of the running process. For tests and for embedding; bytes never
leave memory and are delivered through the event loop, in order.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Mapping
from typing import Final

BUFFER_BYTES_MAX: Final = 256 * 1024

ProtocolFactory = Callable[[], asyncio.Protocol | asyncio.BufferedProtocol]

_listeners: Final[dict[str, MemoryListener]] = {}


class _End(asyncio.Transport):
    """One end: what is written here is read by `peer`'s protocol."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__()
        self._loop = loop
        self._protocol: asyncio.Protocol | asyncio.BufferedProtocol
        self._peer: _End
        self.inbox: deque[bytes] = deque()
        self.inbox_bytes = 0
        self._reading = True
        self._told_to_pause = False
        self._scheduled = False
        self.finished = False  # the peer will write no more
        self._closed = False

    def join(self, protocol: asyncio.Protocol | asyncio.BufferedProtocol, peer: _End) -> None:
        self._protocol = protocol
        self._peer = peer

    # what our protocol asks

    def write(self, data: bytes | bytearray | memoryview) -> None:
        if self._closed or not data:
            return
        self._peer.put(bytes(data))
        if self._peer.inbox_bytes > BUFFER_BYTES_MAX and not self._told_to_pause:
            self._told_to_pause = True
            self._protocol.pause_writing()

    def pause_reading(self) -> None:
        self._reading = False

    def resume_reading(self) -> None:
        self._reading = True
        self.schedule()

    def is_closing(self) -> bool:
        return self._closed

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """This one's buffer is the peer's inbox, and of one size."""

    def get_write_buffer_size(self) -> int:
        return self._peer.inbox_bytes

    def close(self) -> None:
        if not self._closed:
            self._closed = True
            self._peer.finished = True
            self._peer.schedule()
            self._loop.call_soon(self._protocol.connection_lost, None)

    def abort(self) -> None:
        if not self._closed:
            self._peer.inbox.clear()
            self._peer.inbox_bytes = 0
            self.close()

    # what the peer's end does to us

    def put(self, data: bytes) -> None:
        self.inbox.append(data)
        self.inbox_bytes += len(data)
        self.schedule()

    def schedule(self) -> None:
        if not self._scheduled:
            self._scheduled = True
            self._loop.call_soon(self._deliver)

    def _deliver(self) -> None:
        self._scheduled = False
        if self._closed or not self._reading:
            return
        if self.inbox:
            data = self.inbox.popleft()
            self.inbox_bytes -= len(data)
            self._hand_over(data)
            self._peer.drained()
            self.schedule()
        elif self.finished:
            self.close()

    def _hand_over(self, data: bytes) -> None:
        if isinstance(self._protocol, asyncio.Protocol):
            self._protocol.data_received(data)
            return
        rest = memoryview(data)
        while rest and not self._closed:
            buffer = memoryview(self._protocol.get_buffer(len(rest)))
            count = min(len(buffer), len(rest))
            buffer[:count] = rest[:count]
            self._protocol.buffer_updated(count)
            rest = rest[count:]

    def drained(self) -> None:
        if self._told_to_pause and self._peer.inbox_bytes <= BUFFER_BYTES_MAX // 4 and not self._closed:
            self._told_to_pause = False
            self._protocol.resume_writing()


class MemoryListener:
    def __init__(self, name: str, ports: Mapping[int, ProtocolFactory]) -> None:
        self.name = name
        self.ports = ports

    async def close(self) -> None:
        _listeners.pop(self.name, None)


def listen(name: str, ports: Mapping[int, ProtocolFactory]) -> MemoryListener:
    if name in _listeners:
        raise OSError(f"expected a free name, got {name!r} with a listener")
    listener = _listeners[name] = MemoryListener(name, ports)
    return listener


def connect(name: str, port: int, protocol: ProtocolFactory) -> None:
    listener = _listeners.get(name)
    if listener is None or port not in listener.ports:
        raise ConnectionRefusedError(f"nobody listens on port {port} of {name!r}")
    loop = asyncio.get_running_loop()
    near, far = _End(loop), _End(loop)
    near_protocol, far_protocol = protocol(), listener.ports[port]()
    near.join(near_protocol, far)
    far.join(far_protocol, near)
    far_protocol.connection_made(far)
    near_protocol.connection_made(near)
