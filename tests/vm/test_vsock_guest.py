"""The window over real AF_VSOCK: the cell's side in a guest of its own kernel, the host's side out here.

Needs `make vm-tools`. Without it these tests skip, or fail if ANCHORHOLD_REQUIRE_ALL=1.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import secrets
import tempfile
from collections.abc import Coroutine, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from random import Random
from typing import TypeVar

import pytest

from anchorhold.host.slice_feed import CellDeclined, feed, propose, standing
from appliance.serving.window import Answered, Piece
from attestation.consensus.chat import ChatRequest, UserMessage
from attestation.consensus.principal import to_text
from devnet.chain import Chain
from devnet.misbehaviour import Misbehaviour
from devnet.subnet import GATEWAY, Subnet
from foundation.secrecy import Prompt
from image_build.boot import progress
from image_build.boot.bare_machine import BareMachine, BootFailed
from image_build.boot.guest.window import PIECE_BYTES, piece
from image_build.boot.vm_tools import why_not
from vsock_bridge import transport
from vsock_bridge.errors import ConnectFailed
from vsock_bridge.host import Host
from vsock_bridge.ports import Port

pytestmark = pytest.mark.vm
T = TypeVar("T")


@contextmanager
def booted(program: list[str], files: Mapping[str, bytes] | None = None) -> Iterator[BareMachine]:
    if (reason := why_not()) is not None:
        pytest.skip(reason)
    with (
        tempfile.TemporaryDirectory(prefix="vm-") as folder,  # a socket's path must be short
        BareMachine(Path(folder), program=program, files=files) as machine,
    ):
        yield machine


@pytest.fixture(scope="module")
def window() -> Iterator[BareMachine]:
    with booted(["/opt/cell/window.py"]) as machine:
        yield machine


def during(machine: BareMachine, work: Coroutine[object, object, T]) -> T:
    return asyncio.run(progress.during("the guest's part", work, machine.watch()))


# -- bytes


@pytest.mark.parametrize("size", [0, 1, 100, 64 * 1024 - 1, 64 * 1024, 64 * 1024 + 1, 3 << 19])
def test_an_item_of_any_size_comes_back(window: BareMachine, size: int) -> None:
    item = Random(size).randbytes(size)

    async def work() -> bytes:
        async with Host(window.address, Port.STREAM) as host:
            return await host.ask(item)

    assert during(window, work()) == item


def test_an_answer_comes_in_pieces_and_survives_cuts_in_its_middle(window: BareMachine) -> None:
    count, cut_after = 64, (3 * PIECE_BYTES, 21 * PIECE_BYTES + 5)

    async def work() -> tuple[bytes, int, int]:
        heard, pieces, cuts = bytearray(), 0, list(cut_after)
        async with Host(window.address, Port.STREAM) as host:
            async for part in await host.submit(b"pieces %d" % count):
                heard += part
                pieces += 1
                if cuts and len(heard) >= cuts[0]:
                    cuts.pop(0)
                    host.cut()
            return bytes(heard), pieces, host.cuts

    heard, pieces, cuts = during(window, work())
    assert heard == b"".join(piece(number) for number in range(count))
    assert pieces >= count
    assert cuts == len(cut_after)


def test_several_hosts_are_served_side_by_side(window: BareMachine) -> None:
    async def one(number: int) -> None:
        random = Random(number)
        async with Host(window.address, Port.STREAM) as host:
            for _ in range(12):
                item = random.randbytes(random.choice((10, 5_000, 100_000)))
                assert await host.ask(item) == item

    async def work() -> None:
        await asyncio.gather(*(one(number) for number in range(8)))

    during(window, work())


# -- ports


def test_the_three_ports_are_three_services(window: BareMachine) -> None:
    item = secrets.token_bytes(1000)

    async def ask(port: Port) -> bytes:
        async with Host(window.address, port) as host:
            return await host.ask(item)

    assert during(window, ask(Port.STREAM)) == item
    assert during(window, ask(Port.RELEASE)) == hashlib.sha256(item).digest()
    # the guest is a host to itself here: `vsock:CID` as an address to connect to
    assert during(window, ask(Port.OBSERVE)) == item


@pytest.mark.parametrize("port", [0, max(Port) + 1, 22, 2**32 - 1])
def test_another_port_is_refused(window: BareMachine, port: int) -> None:
    with pytest.raises(ConnectFailed):
        during(window, transport.connect(window.address, port, asyncio.Protocol))


# -- hostility


async def _speak(
    window: BareMachine, opening: bytes, words: bytes
) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    reader, writer = await asyncio.open_unix_connection(window.address.place)
    writer.write(opening)
    if opening.startswith(b"CONNECT 500"):
        assert (await reader.readline()).startswith(b"OK ")
    writer.write(words)
    return reader, writer


async def _is_ended(reader: asyncio.StreamReader) -> None:
    with suppress(ConnectionError):
        while await reader.read(65536):
            pass


async def _end(writer: asyncio.StreamWriter) -> None:
    writer.close()
    with suppress(ConnectionError):
        await writer.wait_closed()


def test_fifty_hostile_connections_cost_nobody_else_anything(window: BareMachine) -> None:
    random = Random(50)
    refused = {  # the cell must end these itself
        "garbage": [random.randbytes(random.randrange(100, 5000)) for _ in range(14)],
        "oversized": [bytes([kind]) + b"\xff\xff\xff" + bytes(4) for kind in range(1, 10)],
        "a web browser": [b"GET / HTTP/1.1\r\nHost: cell\r\n\r\n"],
        "a great deal": [bytes(1 << 20)] * 2,
    }
    silent = [b""] * 12 + [b"\x01\x00"] * 7  # and these stay, saying nothing or too little
    openings = [b"CONNECT \n", b"\xff" * 64, b"CONNECT 99999999999\n", b"\n", b"connect 5000\n"]  # never reach a cell
    assert sum(map(len, refused.values())) + len(silent) + len(openings) == 50

    async def work() -> None:
        said = [words for each in refused.values() for words in each]
        loud = await asyncio.gather(*(_speak(window, b"CONNECT %d\n" % Port.STREAM, words) for words in said))
        quiet = await asyncio.gather(*(_speak(window, b"CONNECT %d\n" % Port.STREAM, words) for words in silent))
        odd = await asyncio.gather(*(_speak(window, opening, b"") for opening in openings))
        try:
            async with Host(window.address, Port.STREAM) as host:
                assert await host.ask(b"still there?") == b"still there?"
                await asyncio.gather(*(_is_ended(reader) for reader, _ in loud))
                assert await host.ask(b"and now?") == b"and now?"
        finally:
            await asyncio.gather(*(_end(writer) for _, writer in (*loud, *quiet, *odd)))

    during(window, work())


# -- the cell itself


def _chat(words: str) -> bytes:
    return ChatRequest("scripted-1", (UserMessage(Prompt(words.encode())),), (), None).encode()


def test_the_cell_answers_slices_and_powers_off() -> None:
    subnet, time_ns = Subnet(secrets.token_bytes(16)), 1_700_000_000_000_000_000
    chain = Chain(subnet, GATEWAY, seed=b"guest")
    prompts = {(height, index): f"canary {height} {index} " + "x" * 3000 for height in (1, 2, 3) for index in (0, 1)}
    for height in (1, 2, 3):
        chain.seal([_chat(prompts[height, index]) for index in (0, 1)], time_ns + height)
    config = f'gateway = "{to_text(GATEWAY)}"\nroot_key = "{subnet.root_key.hex()}"\nengine = "scripted-1"\n'
    program = ["-m", "appliance", "--config", "/etc/cell.toml", "--listen", "vsock:any"]

    with booted(program, {"etc/cell.toml": config.encode()}) as machine:
        words = during(machine, _fed_with_a_cut(machine, chain, time_ns + 10))
        assert words.keys() == prompts.keys()
        for place, prompt in prompts.items():
            assert words[place].endswith(prompt.encode())
        during(machine, _lied_to(machine, chain, time_ns + 11))
        health = json.loads(during(machine, _asked(machine, Port.OBSERVE, b"health")))
        assert (health["height"], health["link"]) == (3, chain.head_link.hex())
        status = machine.power_off()
        assert (status, '"event": "stopped"' in machine.console) == (0, True)
        assert "init: the program ended with 0" in machine.lines
        assert "canary" not in machine.console  # the console is the host's to read


async def _fed_with_a_cut(machine: BareMachine, chain: Chain, time_ns: int) -> dict[tuple[int, int], bytes]:
    words: dict[tuple[int, int], bytes] = {}
    complete: set[tuple[int, int]] = set()
    async with Host(machine.address, Port.STREAM) as host:
        bodies = {height: chain.body(height) for height in (1, 2, 3)}
        async for said in feed(host, chain.proof(1, 3, time_ns), bodies):
            if isinstance(said, Piece):
                words[said.height, said.index] = words.get((said.height, said.index), b"") + said.words
                if not host.cuts and said.height == 2:
                    host.cut()
            elif isinstance(said, Answered):
                assert (said.height, said.index) not in complete
                complete.add((said.height, said.index))
        assert complete == words.keys()
        assert host.cuts == 1
        assert (await standing(host)).height == 3
    return words


async def _lied_to(machine: BareMachine, chain: Chain, time_ns: int) -> None:
    async with Host(machine.address, Port.STREAM) as host:
        stranger = Chain(Subnet(b"a stranger"), GATEWAY, seed=b"", blocks=chain.blocks)
        for proof in (
            chain.proof(1, 3, time_ns, misbehaviour=Misbehaviour.FORGED_HEAD),
            stranger.proof(1, 3, time_ns),
            b"\x00",
        ):
            with pytest.raises(CellDeclined):
                await propose(host, proof)


async def _asked(machine: BareMachine, port: Port, item: bytes) -> bytes:
    async with Host(machine.address, port) as host:
        return await host.ask(item)


def test_a_guest_that_cannot_serve_is_reported_with_its_console() -> None:
    with pytest.raises(BootFailed, match="the program ended with 2"), booted(["/opt/cell/absent.py"]):
        pass
