"""A new release takes over from a running one, under load: the order goes on, each prompt is answered once.

governance.md V16, V18, V22. `ANCHORHOLD_UPGRADE_PROMPTS` says how many prompts (60 by default).
"""

from __future__ import annotations

import asyncio
import hashlib
import io
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

import pytest

from anchorhold.host.answer_reports import AnswerCollector
from anchorhold.host.slice_feed import CellDeclined, feed
from appliance.key_release import State
from attestation.auditor.audit import audit
from attestation.broker.authority import govern, show_height
from attestation.consensus.principal import to_text
from attestation.consensus.slices import SliceProof
from attestation.receipts.price import PriceSchedule
from devnet.broker import measurement_of
from devnet.cell_process import started
from devnet.demo.governance import GovernedDemo, devnet_manifest
from devnet.demo.key_owner import MEASUREMENT, KeyOwner, key_owner
from devnet.demo.run import CONFIG, PRICE
from devnet.demo.screen import Screen
from devnet.model import TinyModel
from devnet.sim_tdx import SimulatedTdx
from devnet.subnet import GATEWAY
from devnet.tee import SimulatedTdxTee, simulated_tdx
from foundation.secrecy import Prompt
from measurements.governance.actions import Adopt
from measurements.governance.authority import encode_authority
from measurements.release.heights import Heights
from measurements.release.manifest import Manifest, Serves
from tests.switches import sized
from vsock_bridge.host import Host
from vsock_bridge.ports import Port
from vsock_bridge.transport import Address

PROMPTS = sized("ANCHORHOLD_UPGRADE_PROMPTS")
ROUNDS = 4
SEAM = ROUNDS // 2  # the old release's last block; and as many blocks are one lease
OTHER = hashlib.sha384(b"the next image").digest()
DEARER = PriceSchedule(PRICE.request + 1, PRICE.token_in, PRICE.token_out)
Slice = tuple[bytes, Sequence[bytes]]


@dataclass
class Machine:
    """One cell's image, configuration and place, and what its host heard of it."""

    version: str
    tee: SimulatedTdxTee
    config: bytes
    manifest: Manifest
    collector: AnswerCollector = field(default_factory=AnswerCollector)


class Upgrade(GovernedDemo):
    def __init__(self, folder: Path) -> None:
        super().__init__(folder, Screen(io.StringIO(), words=False))
        self._asked = 0
        self.pid = 0  # of the cell that was started last

    def machine(
        self,
        owner: KeyOwner,
        version: str,
        measured: bytes,
        price: PriceSchedule,
        supersedes: Manifest | None,
        first: int,
    ) -> Machine:
        tee = simulated_tdx(SimulatedTdx.create(owner.seed, owner.validity), measured)
        config = (
            CONFIG.format(
                gateway=to_text(GATEWAY),
                root_key=self._subnet.root_key.hex(),
                price=price,
                engine='engine = "scripted-1"',
            )
            + owner.config_section()
        ).encode()
        manifest = devnet_manifest(
            version,
            supersedes,
            config,
            measurement_of(tee),
            identity=owner.identity,
            price=price,
            serves=Serves(Heights(first, None), SEAM),
        )
        return Machine(version, tee, config, manifest)

    @asynccontextmanager
    async def started(self, owner: KeyOwner, machine: Machine) -> AsyncIterator[Address]:
        config, socket, log = (self._folder / f"{machine.version}.{what}" for what in ("toml", "sock", "log"))
        config.write_bytes(machine.config)
        arguments = owner.cell_arguments()
        arguments[arguments.index("--measurement") + 1] = machine.tee.fields.mrtd.hex()
        async with started(config, socket, log, arguments) as cell:
            self.pid = cell.pid
            await cell.serving()
            standing, denials = await owner.carry(cell.address)
            assert standing.state is State.HAS_KEY, denials
            await cell.model_open()
            yield cell.address

    def ask_and_seal(self, owner: KeyOwner, count: int) -> None:
        prompts = [Prompt(b"prompt %d" % number) for number in range(self._asked, self._asked + count)]
        self._asked += count
        self._ask(prompts, owner.service(GATEWAY), owner.identity.name)
        self._seal()

    def since(self, height: int) -> Slice:
        found = self._gateway.proof_and_bodies(height)
        assert found is not None
        return found

    async def run_slice(self, address: Address, machine: Machine, found: Slice) -> None:
        proof, bodies = found
        first = SliceProof.parse(proof).headers[0].height
        async with Host(address, Port.STREAM) as host:
            async for say in feed(host, proof, {first + at: body for at, body in enumerate(bodies)}):
                machine.collector.add(say)


async def change_over(folder: Path) -> None:
    world = Upgrade(folder)
    with key_owner(folder, TinyModel().write) as owner:
        store = owner.broker.store
        govern(store, encode_authority(world._governance.chain), time.time_ns())
        old = world.machine(owner, "0.1.0", MEASUREMENT, PRICE, None, 1)
        new = world.machine(owner, "0.2.0", OTHER, DEARER, old.manifest, SEAM + 1)
        world._decide(owner, world._propose(owner, Adopt(old.manifest), "1"))
        first = world._ledger.head
        each = PROMPTS // ROUNDS
        async with world.started(owner, old) as at_old:
            for _ in range(SEAM):
                world.ask_and_seal(owner, each)
            before = world.since(1)
            running = asyncio.create_task(world.run_slice(at_old, old, before))
            # The old one is at work; more prompts come, and the decision does.
            world.ask_and_seal(owner, each)
            world._decide(owner, world._propose(owner, Adopt(new.manifest), "2"))
            second = world._ledger.head
            async with world.started(owner, new) as at_new:
                await running
                world.ask_and_seal(owner, PROMPTS - (ROUNDS - 1) * each)
                after = world.since(SEAM + 1)
                await each_refuses_the_blocks_of_the_other(world, at_old, at_new, after)
                await world.run_slice(at_new, new, after)
                await check(world, owner, (old, at_old, before, first), (new, at_new, after, second))
            world.ask_and_seal(owner, 1)
            show_height(
                store,
                world.since(ROUNDS + 1)[0],
                root_key=world._subnet.root_key,
                gateway=GATEWAY,
                now_ns=time.time_ns(),
            )
        with pytest.raises(AssertionError, match=r"release\.superseded"):  # a lease behind its last block
            async with world.started(owner, old):
                pass
        assert owner.entries()


async def each_refuses_the_blocks_of_the_other(world: Upgrade, at_old: Address, at_new: Address, after: Slice) -> None:
    """key-release.md R34: whatever their host brings, no position is answered by both."""
    assert await refused(at_old, after) == "order.heights"
    assert await refused(at_new, world.since(SEAM)) == "order.heights"


async def refused(address: Address, found: Slice) -> str:
    proof, bodies = found
    first = SliceProof.parse(proof).headers[0].height
    async with Host(address, Port.STREAM) as host:
        try:
            said = [say async for say in feed(host, proof, {first + at: body for at, body in enumerate(bodies)})]
        except CellDeclined as declined:
            return declined.code
    return f"said {len(said)} things"


async def check(world: Upgrade, owner: KeyOwner, *sides: tuple[Machine, Address, Slice, bytes]) -> None:
    places = [place for machine, *_ in sides for place in sorted(machine.collector.answers)]
    headers = [header for _, _, (proof, _), _ in sides for header in SliceProof.parse(proof).headers]
    assert [header.height for header in headers] == list(range(1, ROUNDS + 1))  # no gap, no second answer
    assert all(later.parent == earlier.link() for earlier, later in pairwise(headers))
    assert places == [(header.height, index) for header in headers for index in range(header.count)]
    assert len(places) == PROMPTS
    for machine, address, found, adoption in sides:
        receipts = [told.signed.receipt for told in machine.collector.answers.values()]
        assert {(each.by.release, each.by.adoption) for each in receipts} == {(machine.version, adoption)}
        bundle = await world._bundle(
            owner, address, machine.tee, machine.config, found=found, collector=machine.collector
        )
        report = audit(bundle, world._terms(machine.tee))
        assert report.ok, [finding for finding in report.findings if finding.standing.value == "fails"]
        for told in machine.collector.answers.values():
            assert world._gateway.report_answer(bytes.fromhex("00000000fff0000a0101"), told.report()) == "recorded"


@pytest.mark.sized
@pytest.mark.slow
def test_an_upgrade_under_load_has_no_gap_and_no_second_answer(tmp_path: Path) -> None:
    asyncio.run(change_over(tmp_path))
