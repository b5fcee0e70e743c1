"""key-release.md R31 to R33, window.md N17, answer.md A9: service keys come with the model key; renewed in time."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from anchorhold.host.broker_relay import relay
from anchorhold.host.slice_feed import CellDeclined, feed
from appliance.key_release import Attester, Begin, Brought, Carry, Releaser, Standing, State, Wanted
from appliance.ordering.sequencer import Sequencer
from appliance.service_keys import Rings
from appliance.serving.run_queue import Device
from appliance.serving.services import ObserveService, ReleaseService, StreamService
from appliance.serving.window import Answered, Say
from attestation.broker import service
from attestation.broker.administration import add_secret
from attestation.broker.errors import StoreRefused
from attestation.decision_log.events import HeightShown
from attestation.rcar.grant import GrantPurpose
from attestation.sealed.ring import Offer, Ring
from attestation.sealed.suites import SuiteId
from devnet.broker import LocalSend
from devnet.chain import Chain
from devnet.subnet import GATEWAY, Subnet
from tests.little_broker import MODEL_KEY, MODEL_ROOT, NOW_NS, SECRETS, LittleBroker, MakeBroker
from tests.little_tee import CONFIG, KEYSET, snp_tee
from tests.unit.appliance.orders import GatedEngine, answering, chat_payload
from vsock_bridge.host import Host
from vsock_bridge.ports import Port
from vsock_bridge.server import CellServer
from vsock_bridge.transport import Address

TEE = snp_tee()
SERVICE = "default/service-key/prompts"
NOW = 1_700_000_000_000_000_000
SUBNET = Subnet(b"service keys", delegated=False)


@pytest.fixture
def little(tmp_path: Path, make_broker: MakeBroker) -> LittleBroker:
    made = make_broker(tmp_path)
    ring = Ring.make(SuiteId.X25519, 1, 10, 2, randomness=os.urandom)
    service.make(made.store, made.wrapping, SERVICE, ring, model_root=b"", now_ns=NOW_NS)
    return made


def releaser(little: LittleBroker, resource: str = SERVICE) -> Releaser:
    wanted = Wanted(little.keys.public, MODEL_KEY, GrantPurpose.MODEL, MODEL_ROOT, resource)
    return Releaser(wanted, Attester(TEE, KEYSET, CONFIG))


def carried(cell: Releaser, send: Callable[[Carry], tuple[int, bytes]], height: int = 0) -> tuple[Standing, list[str]]:
    paths = []
    said = cell.respond(Begin(), height=height)
    while isinstance(said, Carry):
        paths.append(said.path)
        status, body = send(said)
        said = cell.respond(Brought(said.number, status, body), height=height)
    assert isinstance(said, Standing)
    return said, paths


def rotated(little: LittleBroker, answered: int = 0) -> Ring:
    return service.rotate(
        little.store, little.wrapping, SERVICE, SuiteId.X25519, randomness=os.urandom, now_ns=NOW_NS, answered=answered
    )


def test_both_keys_come_in_one_attested_session(little: LittleBroker) -> None:
    """key-release.md R31"""
    cell = releaser(little)
    standing, paths = carried(cell, LocalSend(little.broker))
    assert standing == Standing(State.HAS_KEY, 4, None)
    assert paths == ["auth", "attest", f"resource/{MODEL_KEY}", f"resource/{SERVICE}"]
    assert cell.held is not None
    key = cell.take_key()
    assert key is not None
    assert key.reveal() == SECRETS[MODEL_KEY]
    assert cell.held.ring is not None
    assert cell.held.ring.through == 20
    shown = repr(cell.held)
    assert cell.held.ring.keys[0].key.secret.reveal().hex() not in shown
    little.audit()


def test_without_its_service_keys_a_cell_has_no_key_at_all(little: LittleBroker) -> None:
    cell = releaser(little, "default/service-key/nobody-has-it")
    standing, _ = carried(cell, LocalSend(little.broker))
    assert (standing.state, standing.failure) == (State.NEEDS_KEY, "broker.404")
    assert cell.held is None


def test_a_service_key_that_is_no_ring(little: LittleBroker) -> None:
    cell = releaser(little, "default/service-key/little")
    assert carried(cell, LocalSend(little.broker))[0] == Standing(State.NEEDS_KEY, 4, "service-key.ring")
    assert cell.held is None


def test_a_model_key_is_not_taken_for_a_service_key(little: LittleBroker) -> None:
    """key-release.md R29: each grant is for its own resource; the host may not swap them."""
    cell, send = releaser(little), LocalSend(little.broker)
    kept: list[bytes] = []

    def swapping(carry: Carry) -> tuple[int, bytes]:
        if carry.path == f"resource/{SERVICE}":
            return 200, kept[-1]
        status, body = send(carry)
        kept.append(body)
        return status, body

    assert carried(cell, swapping)[0].failure == "grant.resource"
    assert cell.held is None


def test_the_ring_is_renewed_from_its_height_on_and_not_before(little: LittleBroker) -> None:
    """key-release.md R32: the model key is not asked for again."""
    cell = releaser(little)
    carried(cell, LocalSend(little.broker))
    assert cell.take_key() is not None
    new = rotated(little)
    assert carried(cell, LocalSend(little.broker), height=10) == (Standing(State.HAS_KEY, 4, None), [])
    standing, paths = carried(cell, LocalSend(little.broker), height=11)
    assert (standing.state, standing.failure) == (State.HAS_KEY, None)
    assert paths == ["auth", "attest", f"resource/{SERVICE}"]
    assert cell.take_key() is None
    assert cell.held is not None
    assert cell.held.ring is not None
    assert cell.held.ring.encode() == new.encode()


def test_a_renewal_that_fails_takes_nothing_away(little: LittleBroker) -> None:
    cell = releaser(little)
    carried(cell, LocalSend(little.broker))
    held = cell.held
    for status in (0, 403):
        standing, _ = carried(cell, lambda _, status=status: (status, b""), height=11)  # type: ignore[misc]
        assert standing.state is State.HAS_KEY
        assert standing.failure in ("broker.unreachable", "broker.403")
        assert cell.held is held
    assert isinstance(cell.respond(Begin(), height=11), Carry)  # left in the middle
    assert cell.held is held
    rotated(little)
    assert carried(cell, LocalSend(little.broker), height=11)[0].failure is None


def test_a_ring_that_contradicts_the_one_held_is_refused(little: LittleBroker) -> None:
    """key-release.md R32, answer.md A8: a broker that forgot its keys may not make cells disagree."""
    cell = releaser(little)
    carried(cell, LocalSend(little.broker))
    held = cell.held
    other = Ring.make(SuiteId.X25519, 1, 10, 2, randomness=os.urandom)
    add_secret(little.store, little.wrapping, SERVICE, other.encode(), model_root=b"", now_ns=NOW_NS, rotate=True)
    standing, _ = carried(cell, LocalSend(little.broker), height=11)
    assert (standing.state, standing.failure) == (State.HAS_KEY, "service-key.contradiction")
    assert cell.held is held


def published(little: LittleBroker, ring: Ring | None = None) -> set[bytes]:
    raws = service.published(little.store, little.wrapping, SERVICE, little.keys.signing)
    names = {Offer.checked(raw, little.keys.public).key.id for raw in raws}
    assert ring is None or names == set(ring.by_id)
    return names


def test_offers_are_those_of_the_ring(little: LittleBroker) -> None:
    before = published(little)
    assert before < published(little, rotated(little))
    assert before < published(little, rotated(little))  # no block is known to be answered
    with pytest.raises(StoreRefused, match="at most 0, the height shown"):
        rotated(little, answered=12)
    with little.store.change() as change:
        change.append(HeightShown(40, GATEWAY), NOW_NS)
        change.set_height(40)
    assert not before <= published(little, rotated(little, answered=12))  # now the oldest is forgotten
    little.audit()


# -- over the window


def test_no_block_is_released_that_the_ring_does_not_reach(little: LittleBroker) -> None:
    """window.md N17: declined before anything changed; with the newer ring the same body is run."""

    async def work() -> None:
        chain = Chain(SUBNET, GATEWAY, seed=b"ring")
        for height in range(1, 24):
            chain.seal([chat_payload(str(height))], NOW + height)
        bodies = {height: chain.body(height) for height in range(1, 24)}
        rings = Rings()
        cell = releaser(little)
        sequencer = Sequencer(root_key=SUBNET.root_key, canister=GATEWAY)
        release = ReleaseService(cell, rings, lambda: sequencer.position.height if sequencer.position else 0)
        serving: asyncio.Future[Device] = asyncio.get_running_loop().create_future()
        stream = StreamService(sequencer, serving, rings)
        observe = ObserveService(sequencer, stream, serving, "gated", rings=rings)
        async with CellServer({Port.STREAM: stream, Port.RELEASE: release, Port.OBSERVE: observe}) as server:
            address = Address.parse("memory:ring")
            await server.start(address)
            async with Host(address, Port.RELEASE) as host:
                assert (await relay(host, LocalSend(little.broker))).state is State.HAS_KEY
            async with Host(address, Port.OBSERVE) as host:
                assert json.loads(await host.ask(b"health"))["service_keys"] == {"renew": 11, "through": 20}
            device = Device(answering(GatedEngine(), ring=rings.newest))
            running = asyncio.create_task(device.run())
            serving.set_result(device)
            said: list[Say] = []

            async def feeding(host: Host) -> None:
                async for say in feed(host, chain.proof(1, 23, NOW + 99), bodies):
                    said.append(say)  # noqa: PERF401  # what was said before a refusal counts

            async with Host(address, Port.STREAM) as host:
                with pytest.raises(CellDeclined) as declined:
                    await feeding(host)
                assert declined.value.code == "cell.service-keys"
                assert sequencer.position is not None
                assert sequencer.position.height == 20
                rotated(little)
                async with Host(address, Port.RELEASE) as releasing:
                    assert (await relay(releasing, LocalSend(little.broker))).failure is None
                assert rings.newest is not None
                assert rings.newest.through == 30
                await feeding(host)
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        assert [say.height for say in said if isinstance(say, Answered)] == list(range(1, 24))
        assert rings.of(5) is not None

    asyncio.run(work())
