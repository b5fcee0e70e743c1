"""The three ways in. The hybrid socket is spoken byte by byte by hand in both directions."""

from __future__ import annotations

import asyncio
import socket
import stat
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import pytest

from tests.event_loop import run
from vsock_bridge import transport
from vsock_bridge.errors import ConnectFailed
from vsock_bridge.transport import Address, Scheme


class Echo(asyncio.Protocol):
    """Says back what it hears, after its greeting, so that a mix-up of bytes would show."""

    def __init__(self, greeting: bytes = b"") -> None:
        self.greeting = greeting

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        transport.write(self.greeting)

    def data_received(self, data: bytes) -> None:
        self.transport.write(data)


class Reader(asyncio.Protocol):
    """Collects; `until(n)` waits for n bytes, `lost` for the end."""

    def __init__(self) -> None:
        self.heard = b""
        self.lost = asyncio.Event()
        self._news = asyncio.Event()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.heard += data
        self._news.set()

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost.set()

    async def until(self, count: int) -> bytes:
        while len(self.heard) < count:
            self._news.clear()
            await self._news.wait()
        return self.heard


async def reach(address: Address, port: int) -> Reader:
    reader = Reader()
    await transport.connect(address, port, lambda: reader)
    return reader


# -- addresses


@pytest.mark.parametrize(
    ("text", "scheme", "place"),
    [
        ("vsock:3", Scheme.VSOCK, "3"),
        ("vsock:any", Scheme.VSOCK, "any"),
        ("unix:/run/a:b.sock", Scheme.UNIX, "/run/a:b.sock"),
        ("memory:x", Scheme.MEMORY, "x"),
    ],
)
def test_an_address_reads_back_as_written(text: str, scheme: Scheme, place: str) -> None:
    address = Address.parse(text)
    assert (address.scheme, address.place, str(address)) == (scheme, place, text)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "vsock",
        "vsock:",
        "vsock:x",
        "vsock:-1",
        "vsock:4294967295",
        "vsock:4294967296",
        "vsock:03",
        "vsock:1 ",
        "unix:",
        "tcp:1",
        "UNIX:/x",
    ],
)
def test_anything_else_is_no_address(text: str) -> None:
    with pytest.raises(ConnectFailed, match=r"^address: expected"):
        Address.parse(text)


# -- memory and the hybrid socket, the same way


@pytest.fixture(params=["unix", "memory"])
def address(request: pytest.FixtureRequest, tmp_path: Path) -> Address:
    return Address.parse(f"unix:{tmp_path}/cell" if request.param == "unix" else f"memory:{tmp_path}")


@asynccontextmanager
async def listening(address: Address) -> AsyncIterator[None]:
    listener = await transport.listen(address, {5000: lambda: Echo(b"stream"), 5001: lambda: Echo(b"release")})
    try:
        yield
    finally:
        await listener.close()


def test_each_port_has_its_own_protocol(address: Address) -> None:
    async def work() -> None:
        async with listening(address):
            for port, greeting in ((5000, b"stream"), (5001, b"release")):
                reader = await reach(address, port)
                reader.transport.write(b"hello")
                assert await reader.until(len(greeting) + 5) == greeting + b"hello"
                reader.transport.close()
                await reader.lost.wait()

    run(work())


def test_megabytes_pass_unharmed(address: Address) -> None:
    # wire.md W22
    async def work() -> None:
        async with listening(address):
            reader = await reach(address, 5000)
            data = bytes(range(256)) * 16384
            reader.transport.write(data)
            assert await reader.until(6 + len(data)) == b"stream" + data
            reader.transport.close()
            await reader.lost.wait()

    run(work())


def test_nobody_listening_is_one_kind_of_failure(address: Address) -> None:
    async def work() -> None:
        with pytest.raises(ConnectFailed, match=r"^connect: expected port 5000"):
            await reach(address, 5000)
        async with listening(address):
            with pytest.raises(ConnectFailed, match=r"^connect: expected port 77"):
                await reach(address, 77)

    run(work())


def test_an_address_has_one_listener(address: Address) -> None:
    async def work() -> None:
        async with listening(address):
            with pytest.raises(OSError, match="expected a free"):
                await transport.listen(address, {})
            reader = await reach(address, 5000)  # and the first is unharmed
            assert await reader.until(6) == b"stream"
            reader.transport.close()
            await reader.lost.wait()
        async with listening(address):
            pass

    run(work())


# -- the hybrid handshake, a hand on the other side


def test_the_listener_speaks_as_vhost_device_vsock_does(tmp_path: Path) -> None:
    # wire.md W21
    async def work() -> None:
        async with listening(Address.parse(f"unix:{tmp_path}/cell")):
            for number in (1, 2):
                reader, writer = await asyncio.open_unix_connection(tmp_path / "cell")
                for byte in b"CONNECT 5000\n":
                    writer.write(bytes([byte]))
                    await writer.drain()
                assert await reader.readline() == b"OK %d\n" % number
                assert await reader.readexactly(6) == b"stream"
                writer.close()
                await writer.wait_closed()

    run(work())


def test_bytes_right_behind_the_opening_are_the_protocols(tmp_path: Path) -> None:
    async def work() -> None:
        async with listening(Address.parse(f"unix:{tmp_path}/cell")):
            reader, writer = await asyncio.open_unix_connection(tmp_path / "cell")
            writer.write(b"CONNECT 5000\nfirst words\n")
            assert await reader.readline() == b"OK 1\n"
            assert await reader.readexactly(18) == b"streamfirst words\n"
            writer.close()
            await writer.wait_closed()

    run(work())


@pytest.mark.parametrize(
    "line",
    [
        b"CONNECT 5009\n",
        b"CONNECT 05000\n",
        b"CONNECT  5000\n",
        b"CONNECT 5000\r\n",
        b"connect 5000\n",
        b"CONNECT -1\n",
        b"CONNECT\n",
        b"\n",
        b"CONNECT 4294967296\n",
        b"CONNECT 99999999999999999999999999999999",
        b"GET / HTTP/1.1\r\n",
        bytes(40),
        "CONNECT \u0665000\n".encode(),
    ],
    ids=repr,
)
def test_any_other_opening_is_closed_without_a_word(tmp_path: Path, line: bytes) -> None:
    async def work() -> None:
        async with listening(Address.parse(f"unix:{tmp_path}/cell")):
            reader, writer = await asyncio.open_unix_connection(tmp_path / "cell")
            writer.write(line)
            heard = b""
            with suppress(ConnectionResetError):  # closed with our bytes unread
                heard = await reader.read()
            assert heard == b""
            writer.close()
            with suppress(BrokenPipeError, ConnectionResetError):
                await writer.wait_closed()

    run(work())


async def _device(path: Path, answer: Callable[[bytes], bytes], work: Callable[[], Awaitable[None]]) -> list[bytes]:
    """A device that reads one line and says `answer`, then stays silent until the connector goes."""
    heard: list[bytes] = []
    served = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heard.append(await reader.readline())
        reply = answer(heard[-1])
        writer.write(reply)
        with suppress(ConnectionResetError):  # it may go without having read all of the reply
            if reply:
                await reader.read()
            writer.close()
            await writer.wait_closed()
        served.set()

    server = await asyncio.start_unix_server(serve, path)
    async with server:
        await work()
        await served.wait()
    return heard


def test_the_connector_speaks_as_a_device_wants(tmp_path: Path) -> None:
    async def work() -> None:
        async def connect() -> None:
            reader = await reach(Address.parse(f"unix:{tmp_path}/device"), 5001)
            assert await reader.until(5) == b"guest"
            reader.transport.close()
            await reader.lost.wait()

        heard = await _device(tmp_path / "device", lambda _: b"OK 1073741824\nguest", connect)
        assert heard == [b"CONNECT 5001\n"]

    run(work())


@pytest.mark.parametrize("answer", [b"", b"OK\n", b"OK x\n", b"ok 1\n", b"NO\n", b"x" * 40, b"OK 00\n"], ids=repr)
def test_any_other_answer_of_a_device_is_a_failure(tmp_path: Path, answer: bytes) -> None:
    async def work() -> None:
        async def connect() -> None:
            with pytest.raises(ConnectFailed):
                await reach(Address.parse(f"unix:{tmp_path}/device"), 5001)

        await _device(tmp_path / "device", lambda _: answer, connect)

    run(work())


def test_a_device_that_says_nothing_is_a_failure_in_the_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transport, "OPENING_SECONDS_MAX", 0.05)

    async def work() -> None:
        async def connect() -> None:
            with pytest.raises(ConnectFailed, match="got silence"):
                await reach(Address.parse(f"unix:{tmp_path}/device"), 5001)

        await _device(tmp_path / "device", lambda _: b"OK 1", connect)

    run(work())


def test_an_opening_that_is_not_finished_ends_by_the_clock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transport, "OPENING_SECONDS_MAX", 0.05)

    async def work() -> None:
        async with listening(Address.parse(f"unix:{tmp_path}/cell")):
            reader, writer = await asyncio.open_unix_connection(tmp_path / "cell")
            writer.write(b"CONNECT 50")
            assert await reader.read() == b""
            writer.close()
            await writer.wait_closed()

    run(work())


def test_too_many_unfinished_openings_push_out_the_oldest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transport, "OPENINGS_MAX", 3)

    async def work() -> None:
        async with listening(Address.parse(f"unix:{tmp_path}/cell")):
            silent = [await asyncio.open_unix_connection(tmp_path / "cell") for _ in range(4)]
            assert await silent[0][0].read() == b""
            silent[3][1].write(b"CONNECT 5000\n")
            assert await silent[3][0].readline() == b"OK 1\n"
            for _, writer in silent:
                writer.close()
                await writer.wait_closed()

    run(work())


# -- the socket file


def test_the_socket_file_is_its_owners_alone_and_goes_with_the_listener(tmp_path: Path) -> None:
    async def work() -> None:
        path = tmp_path / "cell"
        async with listening(Address.parse(f"unix:{path}")):
            assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert not path.exists()

    run(work())


def test_what_a_killed_cell_left_behind_is_taken_over(tmp_path: Path) -> None:
    path = tmp_path / "cell"
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))

    async def work() -> None:
        async with listening(Address.parse(f"unix:{path}")):
            reader = await reach(Address.parse(f"unix:{path}"), 5000)
            assert await reader.until(6) == b"stream"
            reader.transport.close()
            await reader.lost.wait()

    run(work())


def test_a_file_that_is_no_socket_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "cell"
    path.write_text("mine")

    async def work() -> None:
        with pytest.raises(OSError, match="in use"):
            await transport.listen(Address.parse(f"unix:{path}"), {})

    run(work())
    assert path.read_text() == "mine"


# -- AF_VSOCK, as far as a machine without a guest goes


def _vsock_is_there() -> bool:
    try:
        socket.socket(socket.AF_VSOCK, socket.SOCK_STREAM).close()
    except (AttributeError, OSError):
        return False
    return True


needs_vsock = pytest.mark.skipif(not _vsock_is_there(), reason="this kernel has no AF_VSOCK sockets")


@needs_vsock
def test_a_vsock_listener_binds_every_port_and_lets_go_of_them() -> None:
    """Bytes through a real guest are tests marked `vm`."""

    async def work() -> None:
        for _ in range(2):
            listener = await transport.listen(Address.parse("vsock:any"), {45000: Echo, 45001: Echo})
            with pytest.raises(OSError, match="in use"):
                await transport.listen(Address.parse("vsock:any"), {45002: Echo, 45001: Echo})
            await listener.close()

    run(work())


@needs_vsock
def test_a_guest_that_is_not_there_is_a_failure() -> None:
    async def work() -> None:
        with pytest.raises(ConnectFailed, match="expected port 5000 at vsock:77"):
            await reach(Address.parse("vsock:77"), 5000)

    run(work())
