"""A cell's services over the memory transport, blocks for it, and what its hosts hear."""

from __future__ import annotations

import asyncio
import itertools
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from anchorhold.host.slice_feed import says
from appliance.engine.protocol import Engine
from appliance.identity import Identity
from appliance.ordering.sequencer import Sequencer
from appliance.serving.answer_pipeline import Answering
from appliance.serving.run_queue import BACKLOG_BYTES_MAX, Device
from appliance.serving.services import NoBroker, ObserveService, StreamService
from appliance.serving.window import Answered, Piece, PositionQuery, Propose, Say, Supply
from devnet.chain import Chain
from devnet.subnet import GATEWAY, Subnet
from tests.unit.appliance.orders import GatedEngine, answering, chat_payload, there
from vsock_bridge.host import Host
from vsock_bridge.ports import Port
from vsock_bridge.server import CellServer
from vsock_bridge.transport import Address

NOW = 1_700_000_000_000_000_000
SUBNET = Subnet(b"services", delegated=False)
CELL_NUMBERS = itertools.count()


def chain_of(*sizes: int, seed: bytes = b"services") -> Chain:
    chain = Chain(SUBNET, GATEWAY, seed=seed)
    for size in sizes:
        extend(chain, size)
    return chain


def extend(chain: Chain, size: int) -> None:
    height = chain.height + 1
    chain.seal([chat_payload(f"{height}/{k} " + "of several pieces " * 4) for k in range(size)], NOW + height)


CHAIN = chain_of(2, 3, 1, 2)


def bodies(chain: Chain, *heights: int) -> dict[int, bytes]:
    return {height: chain.body(height) for height in heights or range(1, chain.height + 1)}


@dataclass
class Cell:
    address: Address
    device: Device
    server: CellServer
    running: asyncio.Task[None]

    @asynccontextmanager
    async def host(self, port: Port = Port.STREAM) -> AsyncIterator[Host]:
        async with Host(self.address, port) as host:
            yield host


@asynccontextmanager
async def cell(
    engine: Engine | None = None,
    backlog_bytes_max: int = BACKLOG_BYTES_MAX,
    identity: Identity | None = None,
    answers: Answering | None = None,
) -> AsyncIterator[Cell]:
    engine = engine or GatedEngine()
    sequencer = Sequencer(root_key=SUBNET.root_key, canister=GATEWAY)
    device = Device(answers or answering(engine), backlog_bytes_max=backlog_bytes_max)
    stream = StreamService(sequencer, there(device))
    observe = ObserveService(sequencer, stream, there(device), engine.id, ports=lambda: server.ports, identity=identity)
    services = {Port.STREAM: stream, Port.RELEASE: NoBroker(), Port.OBSERVE: observe}
    async with CellServer(services) as server:
        address = Address.parse(f"memory:services-{next(CELL_NUMBERS)}")
        await server.start(address)
        running = asyncio.create_task(device.run())
        try:
            yield Cell(address, device, server, running)
        finally:
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)


async def heard(host: Host, item: Propose | Supply | PositionQuery) -> list[Say]:
    return [say async for say in says(host, item)]


async def observed(at: Cell, what: bytes) -> dict[str, Any]:
    async with at.host(Port.OBSERVE) as host:
        found: dict[str, Any] = json.loads(await host.ask(what))
        return found


def ends(heard: list[Say]) -> list[tuple[int, int]]:
    return [(say.height, say.index) for say in heard if isinstance(say, Answered)]


def words(heard: list[Say]) -> dict[tuple[int, int], bytes]:
    said: dict[tuple[int, int], bytes] = {}
    for say in heard:
        if isinstance(say, Piece):
            said[say.height, say.index] = said.get((say.height, say.index), b"") + say.words
    return said


PLACES = [(height, index) for height in range(1, 5) for index in range((2, 3, 1, 2)[height - 1])]
