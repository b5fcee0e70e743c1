"""key-release.md R34, order.md O34, O35, window.md N21: a cell runs the blocks that it was granted, and no other."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from anchorhold.host.broker_relay import relay
from anchorhold.host.slice_feed import CellDeclined, feed, propose, standing
from appliance.key_release import Attester, Begin, Brought, Carry, Releaser, Standing, State, Wanted
from appliance.ordering.refusals import OrderRefused
from appliance.ordering.sequencer import Sequencer
from appliance.serving.run_queue import Device
from appliance.serving.services import ObserveService, ReleaseService, StreamService
from appliance.serving.window import Answered
from attestation.broker.administration import add_release
from attestation.broker.errors import Denied
from attestation.broker.leases import lease_of
from attestation.broker.session import Release
from attestation.decision_log.events import HeightShown
from attestation.decision_log.words import ReleaseState
from attestation.rcar.errors import GrantRefused
from attestation.rcar.grant import GrantContext, GrantHeights, GrantPurpose
from devnet.broker import LocalSend, measurement_of
from devnet.chain import Chain
from devnet.subnet import GATEWAY, Subnet
from measurements.launch.measurement import SnpLaunchDigest
from measurements.release.heights import Heights
from tests.little_broker import MODEL_KEY, MODEL_ROOT, NOW_NS, LittleBroker, MakeBroker
from tests.little_tee import CONFIG, KEYSET, snp_tee
from tests.unit.appliance.orders import BY, GatedEngine, answering, chat_payload, there
from vsock_bridge.host import Host
from vsock_bridge.ports import Port
from vsock_bridge.server import CellServer
from vsock_bridge.transport import Address

TEE = snp_tee()
SUBNET = Subnet(b"release heights", delegated=False)
NOW = 1_700_000_000_000_000_000


def chain_of(blocks: int) -> Chain:
    chain = Chain(SUBNET, GATEWAY, seed=b"heights")
    for height in range(1, blocks + 1):
        chain.seal([chat_payload(str(height))], NOW + height)
    return chain


@pytest.fixture
def broker(tmp_path: Path, make_broker: MakeBroker) -> Callable[[Heights, int], LittleBroker]:
    def make(heights: Heights, lease: int) -> LittleBroker:
        made = make_broker(tmp_path, TEE, approved=False)
        add_release(
            made.store,
            Release(
                "little-1", measurement_of(TEE), MODEL_ROOT, CONFIG, ReleaseState.APPROVED, heights=heights, lease=lease
            ),
            NOW_NS,
        )
        return made

    return make


def show(little: LittleBroker, height: int) -> None:
    with little.store.change() as change:
        change.append(HeightShown(height, GATEWAY), NOW_NS)
        change.set_height(height)


def releaser(little: LittleBroker) -> Releaser:
    wanted = Wanted(little.keys.public, MODEL_KEY, GrantPurpose.MODEL, MODEL_ROOT)
    return Releaser(wanted, Attester(TEE, KEYSET, CONFIG))


def carried(cell: Releaser, send: Callable[[Carry], tuple[int, bytes]], height: int = 0) -> Standing:
    said = cell.respond(Begin(), height=height)
    while isinstance(said, Carry):
        status, body = send(said)
        said = cell.respond(Brought(said.number, status, body), height=height)
    assert isinstance(said, Standing)
    return said


# -- the sequencer


def sequencer_at(heights: Heights, blocks: int = 6, first: int = 1) -> tuple[Sequencer, Chain]:
    chain = chain_of(blocks)
    made = Sequencer(root_key=SUBNET.root_key, canister=GATEWAY)
    made.grant(heights)
    made.propose(chain.proof(first, blocks, NOW + 99))
    return made, chain


def test_a_block_behind_the_last_is_refused_and_nothing_changes() -> None:
    made, chain = sequencer_at(Heights(1, 2))
    assert [len(made.supply(chain.body(height))) for height in (1, 2)] == [1, 1]
    before = (made.position, made.wants)
    with pytest.raises(OrderRefused) as refused:
        made.supply(chain.body(3))
    assert refused.value.code == "order.heights"
    assert "blocks 1 to 2" in str(refused.value)  # the host is told where this release ends
    assert (made.position, made.wants) == before
    assert made.supply(chain.body(2)) == ()  # what is behind it stays known
    made.grant(Heights(1, 4))
    assert [len(made.supply(chain.body(height))) for height in (3, 4)] == [1, 1]


def second_release_at_one_position() -> str:
    """The code with which a cell of a release for blocks 3 and on refuses block 2, which is another's."""
    made = Sequencer(root_key=SUBNET.root_key, canister=GATEWAY)
    made.grant(Heights(3, None))
    try:
        made.propose(chain_of(4).proof(2, 4, NOW + 99))
    except OrderRefused as refusal:
        return refusal.code if made.position is None else "joined"
    return "ran"


def test_a_release_does_not_join_before_its_first_block() -> None:
    assert second_release_at_one_position() == "order.heights"
    made, chain = sequencer_at(Heights(3, None), blocks=4, first=3)
    assert len(made.supply(chain.body(3))) == 1


# -- the grant


def test_a_grant_says_for_which_blocks_it_is(broker: Callable[[Heights, int], LittleBroker]) -> None:
    little = broker(Heights(5, None), 10)
    cell = releaser(little)
    assert carried(cell, LocalSend(little.broker)).state is State.HAS_KEY
    assert cell.held is not None
    assert cell.held.heights == GrantHeights(5, 9, 14)
    assert little.last().details["first"] == 5
    assert little.last().details["last"] == 14


def test_a_renewal_goes_on_and_asks_no_sooner_than_it_may(broker: Callable[[Heights, int], LittleBroker]) -> None:
    """key-release.md R32, R34: a cell without service keys renews, too; its model key is of no more use to it."""
    little = broker(Heights(1, 25), 10)
    cell = releaser(little)
    carried(cell, LocalSend(little.broker))
    assert cell.take_key() is not None
    asked = len(little.entries())
    assert carried(cell, LocalSend(little.broker), height=4).failure is None
    assert len(little.entries()) == asked  # not before `renew`
    found = []
    for height in (5, 12, 20, 25):
        show(little, height)
        assert carried(cell, LocalSend(little.broker), height=height).failure is None
        assert cell.held is not None
        found.append((cell.held.heights.first, cell.held.heights.last))
    assert found == [(1, 15), (1, 22), (1, 25), (1, 25)]  # and no further than its release
    assert cell.take_key() is None
    little.audit()


@pytest.mark.parametrize(
    ("heights", "code"),
    [(None, "grant.heights"), (GrantHeights(1, 3, 5), "grant.heights"), (GrantHeights(2, 3, 12), "grant.heights")],
)
def test_a_grant_that_takes_blocks_back_is_refused(
    broker: Callable[[Heights, int], LittleBroker],
    monkeypatch: pytest.MonkeyPatch,
    heights: GrantHeights | None,
    code: str,
) -> None:
    little = broker(Heights(1, None), 10)
    cell = releaser(little)
    carried(cell, LocalSend(little.broker))
    held = cell.held
    monkeypatch.setattr("attestation.broker.session.lease_of", lambda *_: heights)
    monkeypatch.setattr("attestation.broker.store.Change.set_granted", lambda *_: None)
    assert carried(cell, LocalSend(little.broker), height=8).failure == code
    assert cell.held is held


@pytest.mark.parametrize(
    "value", [[0, 1, 2], [2, 1, 3], [1, 3, 2], [1, 2], [1, 2, 3, 4], 7, [True, 2, 3], [1, 2, 1 << 63], "1 to 3"]
)
def test_what_are_no_heights_of_a_grant(value: object) -> None:
    good = GrantContext(
        GrantPurpose.MODEL,
        "a/model-key/b",
        1,
        "r",
        bytes(32),
        SnpLaunchDigest(bytes(48)),
        bytes(32),
        bytes(32),
        1,
        bytes(32),
        bytes(32),
        GrantHeights(1, 2, 3),
    )
    assert GrantContext.parse(good.encode()) == good
    assert GrantContext.parse(replace(good, heights=None).encode()).heights is None
    from foundation import cbor

    fields = cbor.decode(good.encode())
    assert isinstance(fields, list)
    with pytest.raises(GrantRefused):
        GrantContext.parse(cbor.encode([*fields[:-1], value]))  # type: ignore[list-item]


# -- the broker's sums


@dataclass(frozen=True)
class Named:
    name: str
    heights: Heights
    lease: int
    adoption: bytes = bytes(32)


STEPS = st.lists(st.tuples(st.sampled_from("abcd"), st.integers(0, 40)), max_size=30)
RELEASES = st.fixed_dictionaries(
    {
        name: st.builds(
            lambda name, first, more, lease: Named(name, Heights(first, None if more is None else first + more), lease),
            st.just(name),
            st.integers(1, 30),
            st.none() | st.integers(0, 30),
            st.integers(1, 12),
        )
        for name in "abcd"
    }
)


def lease_or_denial(release: Named, shown: int, granted: dict[tuple[str, bytes], Heights]) -> GrantHeights | str:
    try:
        return lease_of(release, shown, granted)
    except Denied as refusal:
        return refusal.code


@given(RELEASES, STEPS)
def test_no_block_is_ever_granted_to_two_releases(releases: dict[str, Named], steps: list[tuple[str, int]]) -> None:
    """key-release.md R35: whatever was approved, and in whatever order they ask."""
    granted: dict[tuple[str, bytes], Heights] = {}
    shown = 0
    for name, more in steps:
        release, shown = releases[name], shown + more
        mine = name, release.adoption
        found = lease_or_denial(release, shown, granted)
        if isinstance(found, str):
            assert found == "release.heights"
            continue
        before = granted.get(mine)
        granted[mine] = Heights(found.first, found.last)
        assert found.first in release.heights
        assert found.last in release.heights
        assert found.last <= max(shown, found.first - 1) + release.lease
        assert before is None or (found.first == before.first and found.last >= before.end)
        others = [each for other, each in granted.items() if other != mine]
        assert not any(each.overlaps(granted[mine]) for each in others)


# -- over the window


@asynccontextmanager
async def cell_of(little: LittleBroker, release: str) -> AsyncIterator[Address]:
    sequencer = Sequencer(root_key=SUBNET.root_key, canister=GATEWAY)
    device = Device(answering(GatedEngine(), by=replace(BY, release=release)))
    held = releaser(little)
    stream = StreamService(sequencer, there(device))
    releasing = ReleaseService(
        held, height=lambda: sequencer.position.height if sequencer.position else 0, granted=sequencer.grant
    )
    observe = ObserveService(sequencer, stream, there(device), "gated", releaser=held)
    running = asyncio.create_task(device.run())
    async with CellServer({Port.STREAM: stream, Port.RELEASE: releasing, Port.OBSERVE: observe}) as server:
        address = Address.parse(f"memory:{release}")
        await server.start(address)
        async with Host(address, Port.RELEASE) as host:
            assert (await relay(host, LocalSend(little.broker))).state is State.HAS_KEY
        yield address
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


def test_the_host_is_told_and_goes_on_after_a_renewal(broker: Callable[[Heights, int], LittleBroker]) -> None:
    """window.md N21: refused by name, not ended; the same body is run once the grant reaches it."""
    little = broker(Heights(1, None), 4)
    chain = chain_of(6)
    bodies = {height: chain.body(height) for height in range(1, 7)}

    async def work() -> list[int]:
        answered: list[int] = []

        async def feeding(host: Host) -> None:
            async for say in feed(host, chain.proof(1, 6, NOW + 99), bodies):
                answered.extend([say.height] if isinstance(say, Answered) else [])

        async with cell_of(little, "little-1") as address:
            async with Host(address, Port.OBSERVE) as host:
                health = json.loads(await host.ask(b"health"))
                assert health["release"] == {"name": "little-1", "first": 1, "renew": 2, "last": 4}
            async with Host(address, Port.STREAM) as host:
                with pytest.raises(CellDeclined) as declined:
                    await feeding(host)
                assert declined.value.code == "order.heights"
                assert "blocks 1 to 4" in str(declined.value)
                assert (await standing(host)).height == 4
                show(little, 4)
                async with Host(address, Port.RELEASE) as releasing:
                    assert (await relay(releasing, LocalSend(little.broker))).failure is None
                await feeding(host)
        return answered

    assert asyncio.run(work()) == [1, 2, 3, 4, 5, 6]


def test_the_second_release_at_one_position_is_refused_by_its_cell(
    broker: Callable[[Heights, int], LittleBroker],
) -> None:
    little = broker(Heights(3, None), 4)
    chain = chain_of(4)

    async def work() -> str:
        async with cell_of(little, "little-1") as address, Host(address, Port.STREAM) as host:
            with pytest.raises(CellDeclined) as declined:
                await propose(host, chain.proof(1, 4, NOW + 99))
            judged = await propose(host, chain.proof(3, 4, NOW + 99))
            assert judged.wants == 3
            return declined.value.code

    assert asyncio.run(work()) == "order.heights"
