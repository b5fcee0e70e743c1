"""The three ways to reach a cell, behind two functions: `connect` and `listen`.

    vsock:CID          AF_VSOCK. The address of a guest (to connect), or `vsock:any` (to listen inside one).
    unix:PATH          the hybrid Unix socket of vhost-device-vsock and Firecracker: the connector sends
                       `CONNECT <port>\\n` and reads `OK <number>\\n`, then the bytes are the guest's.
    memory:NAME        inside one process, for tests.

Everything above speaks asyncio's transports and protocols, so nothing else knows which one it is.
"""

from __future__ import annotations

import asyncio
import errno
import os
import re
import socket
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any, Final, Protocol

from vsock_bridge import memory
from vsock_bridge.errors import AddressRefused, ConnectFailed
from vsock_bridge.memory import ProtocolFactory

OPENING_BYTES_MAX: Final = 32  # "CONNECT 4294967295\n" is 19
OPENING_SECONDS_MAX: Final = 5.0
ACCEPT_AGAIN_SECONDS: Final = 0.05
OPENINGS_MAX: Final = 128  # connections that have not yet said which port they want
_CONNECT: Final = re.compile(rb"CONNECT (0|[1-9][0-9]{0,9})\n")
_OK: Final = re.compile(rb"OK (0|[1-9][0-9]{0,9})\n")


class Scheme(Enum):
    VSOCK = "vsock"
    UNIX = "unix"
    MEMORY = "memory"


@dataclass(frozen=True, slots=True)
class Address:
    """Where a cell's window is; the port comes beside it."""

    scheme: Scheme
    place: str

    @classmethod
    def parse(cls, text: str) -> Address:
        name, colon, place = text.partition(":")
        known = {scheme.value: scheme for scheme in Scheme}
        if name not in known or not colon or not place:
            raise AddressRefused(f"address: expected vsock:CID, unix:PATH or memory:NAME, got {text!r}")
        if name == Scheme.VSOCK.value and place != "any" and not _is_cid(place):
            raise AddressRefused(f"address: expected a number of 32 bits or `any` after vsock:, got {place!r}")
        return cls(known[name], place)

    @property
    def cid(self) -> int:
        return socket.VMADDR_CID_ANY if self.place == "any" else int(self.place)

    def __str__(self) -> str:
        return f"{self.scheme.value}:{self.place}"


def _is_cid(text: str) -> bool:
    return re.fullmatch(r"0|[1-9][0-9]{0,9}", text) is not None and int(text) < socket.VMADDR_CID_ANY


class Listener(Protocol):
    """Something that accepts until it is closed."""

    async def close(self) -> None: ...


# -- connecting


async def connect(address: Address, port: int, protocol: ProtocolFactory) -> None:
    """Reach `port` at `address` and hand the connection to a new protocol. Raises `ConnectFailed`."""
    try:
        match address.scheme:
            case Scheme.MEMORY:
                memory.connect(address.place, port, protocol)
            case Scheme.VSOCK:
                await _adopt(socket.AF_VSOCK, (address.cid, port), _nothing_to_say, protocol)
            case Scheme.UNIX:
                await _adopt(socket.AF_UNIX, address.place, _say_connect(port), protocol)
    except (OSError, TimeoutError) as reason:
        got = (reason.strerror or "").lower() or "silence"
        raise ConnectFailed(f"connect: expected port {port} at {address} to answer, got {got}") from None


Opening = Callable[[socket.socket], Awaitable[None]]


async def _adopt(family: int, place: Any, opening: Opening, protocol: ProtocolFactory) -> None:
    loop = asyncio.get_running_loop()
    sock = socket.socket(family, socket.SOCK_STREAM)
    sock.setblocking(False)
    try:
        async with asyncio.timeout(OPENING_SECONDS_MAX):
            await loop.sock_connect(sock, place)
            await opening(sock)
        await loop.create_connection(protocol, sock=sock)
    except BaseException:
        sock.close()
        raise


async def _nothing_to_say(sock: socket.socket) -> None:
    """A VSOCK connection is the guest's from its first byte."""


def _say_connect(port: int) -> Opening:
    async def opening(sock: socket.socket) -> None:
        await asyncio.get_running_loop().sock_sendall(sock, b"CONNECT %d\n" % port)
        line = await _read_line(sock)
        if not _OK.fullmatch(line):
            raise ConnectionRefusedError(f"expected OK from the hybrid socket, got {len(line)} other bytes")

    return opening


async def _read_line(sock: socket.socket) -> bytes:
    """One short line and not a byte more: what follows belongs to somebody else."""
    loop = asyncio.get_running_loop()
    line = b""
    while not line.endswith(b"\n") and len(line) < OPENING_BYTES_MAX:
        byte = await loop.sock_recv(sock, 1)
        if not byte:
            break
        line += byte
    return line


# -- listening


async def listen(address: Address, ports: Mapping[int, ProtocolFactory]) -> Listener:
    """Accept on every port of `ports`, each with its own protocol."""
    match address.scheme:
        case Scheme.MEMORY:
            return memory.listen(address.place, ports)
        case Scheme.VSOCK:
            return await _VsockListener.open(address.cid, ports)
        case Scheme.UNIX:
            return _HybridListener.open(Path(address.place), ports)


class _VsockListener:
    def __init__(self, servers: list[asyncio.Server]) -> None:
        self._servers = servers

    @classmethod
    async def open(cls, cid: int, ports: Mapping[int, ProtocolFactory]) -> _VsockListener:
        loop = asyncio.get_running_loop()
        listener = cls([])
        try:
            for port, protocol in ports.items():
                listener._servers.append(await loop.create_server(protocol, sock=_vsock_at(cid, port)))
        except BaseException:
            await listener.close()
            raise
        return listener

    async def close(self) -> None:
        """Accept nothing more. What was accepted goes on: its owner ends it."""
        for server in self._servers:
            server.close()


def _vsock_at(cid: int, port: int) -> socket.socket:
    sock = socket.socket(socket.AF_VSOCK, socket.SOCK_STREAM)
    try:
        sock.bind((cid, port))
    except BaseException:
        sock.close()
        raise
    return sock


class _HybridListener:
    """One Unix socket for all ports; the peer says which one it wants before anything else."""

    def __init__(self, path: Path, sock: socket.socket, ports: Mapping[int, ProtocolFactory]) -> None:
        self._path = path
        self._sock = sock
        self._ports = ports
        self._count = 0
        self._openings: dict[asyncio.Task[None], None] = {}  # oldest first
        self._accepting = asyncio.get_running_loop().create_task(self._accept())

    @classmethod
    def open(cls, path: Path, ports: Mapping[int, ProtocolFactory]) -> _HybridListener:
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            sock.setblocking(False)
            _remove_dead_socket(path)
            before = os.umask(0o177)  # nobody else's processes
            try:
                sock.bind(str(path))
            finally:
                os.umask(before)
            sock.listen(OPENINGS_MAX)
        except BaseException:
            sock.close()
            raise
        return cls(path, sock, ports)

    async def _accept(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            try:
                sock, _ = await loop.sock_accept(self._sock)
            except OSError as reason:
                if reason.errno not in (errno.EMFILE, errno.ENFILE, errno.ECONNABORTED, errno.ENOBUFS, errno.ENOMEM):
                    raise
                self._drop_oldest_opening()  # a flood took the descriptors: those that say nothing give way
                await asyncio.sleep(ACCEPT_AGAIN_SECONDS)
                continue
            if len(self._openings) >= OPENINGS_MAX:
                self._drop_oldest_opening()
            opening = loop.create_task(self._open(sock))
            self._openings[opening] = None
            opening.add_done_callback(lambda done: self._openings.pop(done, None))

    def _drop_oldest_opening(self) -> None:
        oldest = next(iter(self._openings), None)
        if oldest is not None:
            del self._openings[oldest]
            oldest.cancel()

    async def _open(self, sock: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(OPENING_SECONDS_MAX):
                asked = _CONNECT.fullmatch(await _read_line(sock))
                protocol = self._ports.get(int(asked[1])) if asked else None
                if protocol is None:
                    sock.close()
                    return
                self._count += 1
                await loop.sock_sendall(sock, b"OK %d\n" % (self._count & 0xFFFFFFFF))
            await loop.connect_accepted_socket(protocol, sock)
        except (OSError, TimeoutError):
            sock.close()  # costs the peer its connection and nothing else
        except asyncio.CancelledError:
            sock.close()
            raise

    async def close(self) -> None:
        tasks = [self._accepting, *self._openings]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._sock.close()
        self._path.unlink(missing_ok=True)


def _remove_dead_socket(path: Path) -> None:
    """A socket file nobody listens on is what a killed cell leaves behind; a live one is an error."""
    if not path.is_socket():
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        try:
            probe.connect(str(path))
        except ConnectionRefusedError:
            path.unlink()
            return
    raise OSError(errno.EADDRINUSE, "expected a free socket path, got one with a listener", str(path))
