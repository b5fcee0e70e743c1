"""Two thousand hostile connections against a cell in another process, while a good host asks and gets its answers.

What the cell holds, as its kernel counts it, grows by no more than W20 allows, and every descriptor comes back.
"""

from __future__ import annotations

import asyncio
import random
import subprocess
import sys
from collections.abc import Awaitable, Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from tests.event_loop import run
from tests.switches import sized
from tests.unit.vsock_bridge.edges import Peer
from tests.unit.vsock_bridge.hostile_cell import LIMITS
from vsock_bridge.codec import encode
from vsock_bridge.host import Host, Patience
from vsock_bridge.limits import CREDIT_BYTES_MAX
from vsock_bridge.messages import Ack, Cancel, Credit, Data, Hello, Mark, Message, Open, Ping
from vsock_bridge.ports import Port
from vsock_bridge.transport import Address

CONNECTIONS = sized("ANCHORHOLD_CONNECTIONS")
AT_ONCE = 48  # more than the port has places for
HELLO = Hello(1, 1, b"x" * 16)


class Attacker:
    """One hostile connection. Writes what it likes, and waits for the end the cell makes of it, or goes itself."""

    def __init__(self, path: Path, source: random.Random) -> None:
        self._path = path
        self.random = source
        self._counter = 0

    async def attack(self, how: Callable[[Attacker], Awaitable[None]]) -> None:
        with suppress(ConnectionError, asyncio.IncompleteReadError):
            self.reader, self.writer = await asyncio.open_unix_connection(self._path)
            try:
                await how(self)
            finally:
                self.writer.transport.abort()

    async def enter(self, port: int = 5000, *, greet: bool = True) -> None:
        self.writer.write(b"CONNECT %d\n" % port)
        await self.reader.readline()
        if greet:
            self.say(HELLO)

    def say(self, *messages: Message) -> None:
        out = []
        for message in messages:
            out.append(encode(message, self._counter))
            self._counter += 1
        self.writer.write(b"".join(out))

    def name(self) -> bytes:
        return self.random.randbytes(16)

    async def until_the_end(self) -> None:
        while await self.reader.read(65536):
            pass


async def oversized_header(one: Attacker) -> None:
    await one.enter()
    one.writer.write(b"\x03\xff\xff\xff\0\0\0\0")
    await one.until_the_end()


async def truncated_frame(one: Attacker) -> None:
    await one.enter()
    frame = encode(Data(1, 0, 1, Mark.END, bytes(50_000)), 1)
    one.writer.write(frame[: one.random.randrange(len(frame))])
    await one.writer.drain()


async def wrong_version(one: Attacker) -> None:
    await one.enter(greet=False)
    one.say(Hello(2, 9, b"x" * 16))
    await one.until_the_end()


async def slow_loris(one: Attacker) -> None:
    await one.enter()
    one.writer.write(b"\x03\x03\xff\xff\0\0\0\0")
    trickle = bytes(one.random.randrange(1, 200))
    ending = asyncio.ensure_future(one.until_the_end())
    while not ending.done():
        one.writer.write(trickle)
        await asyncio.wait({ending}, timeout=0.1)  # the attack itself
    await ending


async def garbage(one: Attacker) -> None:
    await one.enter(greet=one.random.random() < 0.5)
    one.writer.write(one.random.randbytes(one.random.randrange(9, 5000)))
    await one.until_the_end()


async def garbage_at_the_door(one: Attacker) -> None:
    one.writer.write(one.random.randbytes(one.random.randrange(33, 300)))
    await one.until_the_end()


async def silence_at_the_door(one: Attacker) -> None:
    one.writer.write(b"CONNECT 50")
    await one.writer.drain()


async def unknown_port(one: Attacker) -> None:
    await one.enter(one.random.choice([0, 22, 5001, 4294967295]))
    await one.until_the_end()


async def open_flood(one: Attacker) -> None:
    await one.enter()
    one.say(*(Open(number, one.name(), 0, 100) for number in range(1, 200)))
    await one.until_the_end()


async def streams_left_full(one: Attacker) -> None:
    """Fill a stream's window with half an item and go: the stream stays behind."""
    await one.enter()
    one.say(Open(1, one.name(), 0, 0))
    one.say(*(Data(1, number, 1, Mark.MORE, bytes(60_000)) for number in range(4)))
    await one.writer.drain()


async def many_empty_items(one: Attacker) -> None:
    await one.enter()
    one.say(Open(1, one.name(), 0, 0))
    one.say(*(Data(1, number, number + 1, Mark.END, b"") for number in range(2500)))
    one.say(*(Cancel(1, number) for number in range(5000)))
    await one.writer.drain()
    await one.reader.read(1)


async def ping_flood(one: Attacker) -> None:
    """And read none of the answers."""
    await one.enter()
    for _ in range(40):
        one.say(*(Ping(number, False) for number in range(500)))
        await asyncio.sleep(0)


async def credit_overflow(one: Attacker) -> None:
    await one.enter()
    one.say(Open(1, one.name(), 0, CREDIT_BYTES_MAX), Credit(1, CREDIT_BYTES_MAX))
    await one.until_the_end()


async def more_than_granted(one: Attacker) -> None:
    await one.enter()
    one.say(Open(1, one.name(), 0, 0))
    one.say(*(Data(1, number, number + 1, Mark.END, bytes(200_000)) for number in range(8)))
    await one.until_the_end()


async def unread_answers(one: Attacker) -> None:
    """Ask for a lot, grant all the credit there is, read nothing."""
    await one.enter()
    one.say(Open(1, one.name(), 0, CREDIT_BYTES_MAX))
    one.say(*(Data(1, number, number + 1, Mark.END, bytes(60_000)) for number in range(8)))
    await one.writer.drain()
    await one.reader.read(1)


async def acknowledging_the_unsent(one: Attacker) -> None:
    await one.enter()
    one.say(Open(1, one.name(), 0, 0), Ack(1, 2**40))
    await one.until_the_end()


async def greeting_and_silence(one: Attacker) -> None:
    await one.enter()
    await one.reader.read(1)


async def no_greeting(one: Attacker) -> None:
    await one.enter(greet=False)
    await one.until_the_end()


ATTACKS = [
    oversized_header,
    truncated_frame,
    wrong_version,
    slow_loris,
    garbage,
    garbage_at_the_door,
    silence_at_the_door,
    unknown_port,
    open_flood,
    streams_left_full,
    many_empty_items,
    ping_flood,
    credit_overflow,
    more_than_granted,
    unread_answers,
    acknowledging_the_unsent,
    greeting_and_silence,
    no_greeting,
]


@pytest.fixture
def cell(tmp_path: Path) -> Iterator[tuple[Path, int]]:
    path = tmp_path / "cell"
    command = [sys.executable, "-m", "tests.unit.vsock_bridge.hostile_cell", str(path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.readline() == b"ready\n"
        yield path, process.pid
        process.stdin.close()
        assert process.wait(30) == 0
        assert process.stderr.read() == b"", "the cell said something went wrong inside it"


def resident_bytes(pid: int) -> int:
    status = Path(f"/proc/{pid}/status").read_text()
    return next(int(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith("VmRSS"))


def descriptors(pid: int) -> int:
    return len(list(Path(f"/proc/{pid}/fd").iterdir()))


@pytest.mark.sized
@pytest.mark.slow
def test_two_thousand_hostile_connections_cost_one_good_host_nothing(cell: tuple[Path, int]) -> None:
    # wire.md W17, W20
    path, pid = cell

    async def test() -> None:
        host = Host(Address.parse(f"unix:{path}"), Port.STREAM, LIMITS, Patience(total_seconds=60))
        await host.start()
        await host.ask(bytes(200_000))
        before, open_before, peak = resident_bytes(pid), descriptors(pid), 0
        over = asyncio.Event()
        answered = 0

        async def ask() -> None:
            nonlocal answered, peak
            source = random.Random(1)
            while not over.is_set():
                item = source.randbytes(source.choice([0, 10, 1000, 100_000]))
                assert await host.ask(item) == item
                answered += 1
                peak = max(peak, resident_bytes(pid))

        asking = asyncio.create_task(ask())
        places = asyncio.Semaphore(AT_ONCE)

        async def one(number: int) -> None:
            async with places:
                await Attacker(path, random.Random(number)).attack(ATTACKS[number % len(ATTACKS)])

        await asyncio.gather(*(one(number) for number in range(CONNECTIONS)))
        over.set()
        await asking
        assert host.cuts == 0, "the good host was cut off"
        assert answered > CONNECTIONS // 40
        await everyone_gone(path, pid, open_before)
        grown = peak - before
        print(
            f"\n{CONNECTIONS} hostile connections, {answered} good answers; the cell grew by {grown / 2**20:.1f} MiB at"
            f" its peak, allowed {LIMITS.port_bytes_max / 2**20:.1f}; descriptors {open_before} before and after"
        )
        assert grown <= LIMITS.port_bytes_max
        await host.close()

    run(test())


async def everyone_gone(path: Path, pid: int, open_before: int) -> None:
    """Wait, by the cell's own clock: it pings a stranger after one silence, and who is gone is gone after two."""
    while descriptors(pid) != open_before:
        stranger = await Peer.reach(path)
        assert isinstance(await stranger.hear(), Ping)
        await stranger.close()
