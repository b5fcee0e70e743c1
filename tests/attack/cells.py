"""Real cells for attacks: a process, its window, and what it says there."""

from __future__ import annotations

import asyncio
import json
import subprocess
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Final

from anchorhold.client import chat
from anchorhold.host.slice_feed import CellDeclined, propose, says
from appliance.config import config_digest
from appliance.key_release import State
from appliance.serving.window import Answered, Declined, Say, Supply
from attestation.broker.administration import add_release
from attestation.broker.session import Release
from attestation.consensus.principal import to_text
from attestation.decision_log.words import ReleaseState
from devnet.chain import Chain
from devnet.demo.key_owner import KeyOwner
from devnet.subnet import GATEWAY, Subnet
from measurements.release.heights import Heights
from tests.attack.outcome import Outcome, Unexpected, broken, held
from tests.attack.room import Room
from tests.cell_process import CellProcess, environment
from vsock_bridge.errors import BridgeError
from vsock_bridge.host import Host
from vsock_bridge.ports import Port
from vsock_bridge.transport import Address

NOW: Final = 1_700_000_000_000_000_000
SUBNET: Final = Subnet(b"under attack")


def prompt(words: str, model: str = "scripted-1") -> bytes:
    """A plain request for the model that a cell without a pack serves."""
    return chat(model, words).encode()


BELIEVED: Final = "believed"
RUN: Final = "run"


def chain(blocks: int = 3, *, seed: bytes = b"under attack", subnet: Subnet = SUBNET) -> Chain:
    """So many blocks, of two requests each."""
    made = Chain(subnet, GATEWAY, seed=seed)
    for height in range(1, blocks + 1):
        made.seal([prompt("one"), prompt("two")], NOW + height)
    return made


class PlainCell(CellProcess):
    """The appliance over a hybrid socket: plain requests, the scripted engine, no broker."""

    def __init__(self, room: Room, subnet: Subnet = SUBNET) -> None:
        super().__init__(room.folder, subnet, GATEWAY)
        self._command[:3] = room.python("appliance")


@contextmanager
def plain_cell(room: Room) -> Iterator[PlainCell]:
    with PlainCell(room) as cell:
        yield cell


def over_the_window(room: Room, work: Callable[[Host], Awaitable[Outcome]]) -> Outcome:
    """`work` as the host of a plain cell, which has to serve on afterwards, and to end as it is told."""

    async def hosting(cell: PlainCell) -> Outcome:
        async with Host(cell.address, Port.STREAM) as host:
            return await work(host)

    with plain_cell(room) as cell:
        try:
            outcome = asyncio.run(hosting(cell))
        except BridgeError:
            if cell.process.poll() is None:
                raise
            outcome = held("")
        ended = cell.process.poll()
    return outcome if ended is None else broken(f"the cell ended itself with status {ended}")


async def proposed(host: Host, proof: bytes) -> str:
    """The code of the refusal, or that the cell believes it."""
    try:
        await propose(host, proof)
    except CellDeclined as refusal:
        return refusal.code
    return BELIEVED


async def supplied(host: Host, body: bytes) -> tuple[str, list[Say]]:
    """The code of the refusal, or that the block was run; and everything that was said."""
    heard: list[Say] = []
    try:
        async for say in says(host, Supply(body)):
            heard.append(say)
            if isinstance(say, Declined):
                return say.code, heard
    except CellDeclined as refusal:
        return str(refusal.got), heard
    return RUN if any(isinstance(say, Answered) for say in heard) else "nothing run", heard


def receipts(heard: list[Say]) -> list[Answered]:
    return [say for say in heard if isinstance(say, Answered)]


class ReleasedCell:
    """The devnet's cell: a simulated machine, a key from a real broker, a pack, and an engine over it."""

    def __init__(self, room: Room, owner: KeyOwner, engine: str, heights: Heights | None = None) -> None:
        self.address = Address.parse(f"unix:{room.folder}/cell.sock")
        config = room.folder / "cell.toml"
        config.write_text(
            f'gateway = "{to_text(GATEWAY)}"\nroot_key = "{SUBNET.root_key.hex()}"\n{engine}\n' + owner.config_section()
        )
        if heights is None:
            owner.approve(config.read_bytes())
        else:
            made = owner.broker
            add_release(
                made.store,
                Release(
                    "for some blocks",
                    made.measurement,
                    made.model_root,
                    config_digest(config.read_bytes()),
                    ReleaseState.APPROVED,
                    heights=heights,
                ),
                time.time_ns(),
            )
        self.process = subprocess.Popen(
            [
                *room.python("devnet.cell"),
                "--config",
                str(config),
                "--listen",
                str(self.address),
                *owner.cell_arguments(),
            ],
            cwd=room.folder,
            env=environment(),
            stderr=subprocess.PIPE,
            text=True,
        )
        self.owner = owner

    def until(self, *events: str) -> dict[str, object]:
        """The first of these lines of its log. Raises `Unexpected` where it ends before."""
        assert self.process.stderr is not None
        seen = ""
        for line in self.process.stderr:
            if not line.startswith("{"):
                seen = line.strip() or seen
                continue
            said: dict[str, object] = json.loads(line)
            seen = str(said.get("event"))
            if seen in events:
                return said
        raise Unexpected(f"the cell ended with status {self.process.wait()} behind {seen!r}, without {events}")

    async def get_key(self) -> None:
        standing, denials = await self.owner.carry(self.address)
        if standing.state is not State.HAS_KEY:
            raise Unexpected(f"no key: {standing.failure}, {denials}")

    def end(self, *, asked: bool = True) -> int:
        """Its exit status; it is told to stop, unless it ends by itself."""
        if asked and self.process.poll() is None:
            self.process.terminate()
        assert self.process.stderr is not None
        with self.process.stderr as rest:
            rest.read()
        return self.process.wait()


@contextmanager
def released_cell(
    room: Room, owner: KeyOwner, engine: str = 'engine = "scripted-1"', heights: Heights | None = None
) -> Iterator[ReleasedCell]:
    """With its key and its model open; its release is for these blocks, or for every one."""
    cell = ReleasedCell(room, owner, engine, heights)
    try:
        cell.until("serving")
        asyncio.run(cell.get_key())
        cell.until("model open")
        yield cell
    finally:
        cell.end()
