"""window.md N4 to N15: what stands behind the ports, over the memory transport: real server, sequencer and blocks."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from anchorhold.host.slice_feed import CellDeclined, evidence, feed, propose, says, standing
from appliance.identity import Identity
from appliance.serving.window import (
    Answered,
    Declined,
    Judged,
    Piece,
    PositionQuery,
    Propose,
    Say,
    Standing,
    Supply,
    decode_say,
    encode_ask,
)
from attestation.consensus.blocks import Kind
from attestation.consensus.slices import SliceProof
from attestation.evidence.evidence_bundle import EvidenceBundle
from attestation.evidence.keyset import KeyUse
from attestation.receipts.outcome import Finish
from devnet.chain import Chain
from devnet.misbehaviour import Misbehaviour
from devnet.subnet import GATEWAY, Subnet
from devnet.tee import SimulatedTee
from tests.event_loop import run
from tests.little_tee import snp_tee, tdx_tee
from tests.unit.appliance.orders import GatedEngine, chat_payload, receipt, until
from tests.unit.appliance.serving.service_cell import (
    CELL_NUMBERS,
    CHAIN,
    NOW,
    PLACES,
    SUBNET,
    bodies,
    cell,
    ends,
    extend,
    heard,
    observed,
    words,
)
from vsock_bridge.errors import StreamEnded
from vsock_bridge.host import Host
from vsock_bridge.messages import Mark
from vsock_bridge.ports import Port
from vsock_bridge.server import CellServer
from vsock_bridge.transport import Address


def test_join_and_answer() -> None:
    """window.md N5 to N8"""

    async def work() -> None:
        async with cell() as at, at.host() as host:
            assert await standing(host) == Standing(0, None, None, 0)
            spoken = [say async for say in feed(host, CHAIN.proof(1, 4, NOW + 9), bodies(CHAIN))]
            assert spoken[0] == Judged("joined", 1, 4, NOW + 9)
            assert ends(spoken) == PLACES
            assert set(words(spoken)) == set(PLACES)
            for place, text in words(spoken).items():
                assert text.startswith(f"{place[0]}/{place[1]} of several pieces".encode())
            stood = [say for say in spoken if isinstance(say, Standing)]
            assert [say.height for say in stood] == [1, 2, 3, 4]
            assert spoken[-1] == await standing(host) == Standing(4, CHAIN.link(4), None, NOW + 9)

    run(work())


def test_a_body_behind_runs_nothing_twice() -> None:
    """window.md N8, order.md O29"""

    async def work() -> None:
        engine = GatedEngine()
        async with cell(engine) as at, at.host() as host:
            _ = [say async for say in feed(host, CHAIN.proof(1, 4, NOW + 9), bodies(CHAIN))]
            ran = list(engine.asked)
            assert await heard(host, Supply(CHAIN.body(2))) == [Standing(4, CHAIN.link(4), None, NOW + 9)]
            assert (await propose(host, CHAIN.proof(1, 4, NOW + 9))).step == "current"
            assert (await propose(host, CHAIN.proof(1, 2, NOW + 3))).step == "stale"
            assert engine.asked == ran

    run(work())


FORK = CHAIN.branch(1, seed=b"another")
for _ in range(3):
    extend(FORK, 2)
FOREIGN = Chain(Subnet(b"elsewhere", delegated=False), GATEWAY, seed=b"services")
extend(FOREIGN, 1)

LIES = {
    "window.format": b"\x81\xf5",
    "slice.encoding": encode_ask(Propose(b"\xff")),
    "order.gap": encode_ask(Propose(CHAIN.proof(4, 4, NOW + 9))),
    "order.fork": encode_ask(Propose(FORK.proof(1, 4, NOW + 9))),
    "slice.certified-data": encode_ask(
        Propose(
            SliceProof(
                SliceProof.parse(CHAIN.proof(1, 4, NOW + 9)).certificate,
                SliceProof.parse(CHAIN.proof(1, 3, NOW + 9)).headers,
            ).encode()
        )
    ),
    "signature.invalid": encode_ask(Propose(FOREIGN.proof(1, 1, NOW + 9))),
    "slice.request-root": encode_ask(Supply(CHAIN.body(1, misbehaviour=Misbehaviour.REQUEST_CHANGED))),
    "slice.count": encode_ask(Supply(CHAIN.body(1, misbehaviour=Misbehaviour.REQUEST_LEFT_OUT))),
}


@pytest.mark.parametrize("code", LIES)
def test_a_refusal_has_its_code_and_changes_nothing(code: str) -> None:
    """window.md N4: not what is wanted, not where the cell stands; and the next ask is served."""

    async def work() -> None:
        engine = GatedEngine()
        async with cell(engine) as at, at.host() as host:
            await propose(host, CHAIN.proof(1, 2, NOW + 3))
            before = await standing(host)
            exchange = await host.submit(LIES[code])
            said = decode_say(await exchange.read())
            assert isinstance(said, Declined)
            assert said.code == code
            assert exchange.outcome is Mark.END
            assert await standing(host) == before
            assert engine.asked == []
            assert ends([say async for say in feed(host, CHAIN.proof(1, 4, NOW + 9), bodies(CHAIN))]) == PLACES
            metrics = await observed(at, b"metrics")
            assert metrics["refused"] == 1
            assert metrics["forks"] == (code == "order.fork")  # window.md N13

    run(work())


def test_a_body_without_a_proof_and_one_too_early() -> None:
    async def work() -> None:
        async with cell() as at, at.host() as host:
            for body, code in ((1, "order.not-joined"), (3, "order.gap")):
                (said,) = await heard(host, Supply(CHAIN.body(body)))
                assert isinstance(said, Declined)
                assert said.code == code
                await propose(host, CHAIN.proof(1, 4, NOW + 9))

    run(work())


def test_a_feed_that_is_declined_says_the_code() -> None:
    async def work() -> None:
        async with cell() as at, at.host() as host:
            with pytest.raises(CellDeclined) as declined:
                await propose(host, b"nothing")
            assert declined.value.code == "slice.encoding"
            with pytest.raises(CellDeclined) as too_large:
                await propose(host, bytes(3 << 20))
            assert too_large.value.code == "too-large"
            bent = CHAIN.body(1, misbehaviour=Misbehaviour.REQUEST_CHANGED)
            with pytest.raises(CellDeclined) as changed:
                _ = [say async for say in feed(host, CHAIN.proof(1, 4, NOW + 9), {1: bent})]
            assert changed.value.code == "slice.request-root"

    run(work())


def test_sealed_and_broken_requests_keep_their_places() -> None:
    """window.md N8, N9"""

    async def work() -> None:
        chain = Chain(SUBNET, GATEWAY, seed=b"kinds")
        chain.seal([chat_payload("first"), b"no chat"], NOW + 1)
        chain.seal([b"ciphertext"], NOW + 2, kind=Kind.SEALED)
        async with cell() as at, at.host() as host:
            spoken = [say async for say in feed(host, chain.proof(1, 2, NOW + 9), bodies(chain))]
            assert ends(spoken) == [(1, 0), (1, 1), (2, 0)]
            finishes = [receipt(say.receipt).finish for say in spoken if isinstance(say, Answered)]
            assert finishes == [Finish.STOP, "chat.encoding", "sealed.unsupported"]

    run(work())


def test_what_a_failed_answer_said_before_is_not_lost() -> None:
    """The pieces that were there come out, though all frames have arrived when the first is read."""
    pieces = [Piece(1, 0, b"one"), Piece(1, 0, b"two"), Piece(1, 0, b"three")]

    class Fails:
        async def serve(self, item: bytes, answer: Any) -> None:
            from appliance.serving.window import encode_say
            from vsock_bridge.server import Failed

            for piece in pieces:
                await answer.send(encode_say(piece))
            raise Failed("a-word")

    async def work() -> None:
        async with CellServer({Port.STREAM: Fails()}) as server:
            address = Address.parse(f"memory:services-{next(CELL_NUMBERS)}")
            await server.start(address)
            async with Host(address, Port.STREAM) as host:
                spoken: list[Say] = []

                async def read_late() -> None:
                    async for say in says(host, PositionQuery()):
                        spoken.append(say)
                        await until(lambda: not host._exchanges)  # all of it has arrived

                with pytest.raises(CellDeclined) as declined:
                    await read_late()
                assert spoken == pieces
                assert declined.value.got == "a-word"

    run(work())


def test_an_engine_that_fails_answers_nothing_more() -> None:
    """window.md N15"""

    async def work() -> None:
        chain = Chain(SUBNET, GATEWAY, seed=b"break")
        chain.seal([chat_payload("it will break"), chat_payload("never asked")], NOW + 1)
        engine = GatedEngine()
        async with cell(engine) as at, at.host() as host:
            await propose(host, chain.proof(1, 1, NOW + 9))
            exchange = await host.submit(encode_ask(Supply(chain.body(1))))
            await asyncio.wait({at.running})
            assert exchange.outcome is None
            assert engine.asked == [b"it will break"]

    run(work())


def test_a_supply_waits_for_room_before_it_releases(monkeypatch: pytest.MonkeyPatch) -> None:
    """window.md N11, N12: cancelled while it waits, it has released nothing."""
    monkeypatch.setattr("appliance.serving.run_queue.QUEUE_BYTES_MAX", 1)

    async def work() -> None:
        engine = GatedEngine(opened=False)
        async with cell(engine) as at, at.host() as host, at.host() as second:
            await propose(host, CHAIN.proof(1, 4, NOW + 9))
            first = asyncio.create_task(heard(host, Supply(CHAIN.body(1))))
            await asyncio.to_thread(engine.began.wait)
            waiting = await second.submit(encode_ask(Supply(CHAIN.body(2))))
            async with at.host() as third:
                assert (await standing(third)).height == 1
                waiting.cancel()
                await waiting.read()
                assert waiting.outcome is Mark.CANCELLED
                assert (await standing(third)).height == 1
            engine.gate.set()
            assert ends(await first) == PLACES[:2]
            assert ends(await heard(second, Supply(CHAIN.body(2)))) == PLACES[2:5]

    run(work())


def test_health_and_metrics_have_the_fields_that_are_promised() -> None:
    """window.md N13, secrecy.md S8"""

    async def work() -> None:
        async with cell() as at, at.host() as host:
            assert await observed(at, b"health") == {
                "state": "waiting for a first proof",
                "engine": "gated",
                "height": None,
                "link": None,
                "wants": None,
                "certified_time_ns": 0,
                "service_keys": None,
                "release": None,
            }
            _ = [say async for say in feed(host, CHAIN.proof(1, 4, NOW + 9), bodies(CHAIN, 1, 2))]
            assert await observed(at, b"health") == {
                "state": "serving",
                "engine": "gated",
                "height": 2,
                "link": CHAIN.link(2).hex(),
                "wants": 3,
                "certified_time_ns": NOW + 9,
                "service_keys": None,
                "release": None,
            }
            metrics = await observed(at, b"metrics")
            ports = metrics.pop("ports")
            assert metrics == {"requests_answered": 5, "requests_queued": 0, "refused": 0, "forks": 0}
            assert set(ports) == {"stream", "release", "observe"}
            for port in ports.values():
                assert set(port) == {"open", "connections", "refused", "items", "failed", "cancelled", "evicted"}
                assert all(type(count) is int for count in port.values())
            assert ports["stream"]["items"] == 3

    run(work())


@pytest.mark.parametrize("tee", [snp_tee(), tdx_tee()], ids=["snp", "tdx"])
def test_anyone_may_ask_who_the_cell_is(tee: SimulatedTee) -> None:
    """window.md N18, evidence-production.md E119: over a nonce of theirs, with the key that signs its receipts."""

    async def work() -> None:
        identity = Identity(b"\x09" * 32, tee)
        async with cell(identity=identity) as at, at.host(Port.OBSERVE) as host:
            for nonce in (b"n" * 16, b"m" * 64):
                bundle = EvidenceBundle.parse(await evidence(host, nonce))
                assert (bundle.keyset, bundle.measured_config) == (identity.keyset, b"\x09" * 32)
                assert identity.keyset.key(KeyUse.RECEIPT) is not None
                assert nonce in bundle.encode()
            for nonce in (b"", b"n" * 15, b"n" * 65):
                exchange = await host.submit(b"identity:" + nonce)
                assert (await exchange.read(), exchange.outcome) == (b"report-data.length", Mark.FAILED)

    run(work())


def test_a_cell_without_a_tee_can_show_nobody_who_it_is() -> None:
    """window.md N18"""

    async def work() -> None:
        async with cell() as at, at.host(Port.OBSERVE) as host:
            exchange = await host.submit(b"identity:" + bytes(32))
            assert (await exchange.read(), exchange.outcome) == (b"no-tee", Mark.FAILED)

    run(work())


@pytest.mark.parametrize("item", [b"", b"identity", b"healthy", b"Health", b"health\n", b"\xff", b"words"])
def test_anything_else_at_observe_fails(item: bytes) -> None:
    """window.md N13"""

    async def work() -> None:
        async with cell() as at, at.host(Port.OBSERVE) as host:
            exchange = await host.submit(item)
            assert (await exchange.read(), exchange.outcome) == (b"health-or-metrics", Mark.FAILED)
            assert json.loads(await host.ask(b"health"))

    run(work())


def test_nobody_is_behind_the_release_port() -> None:
    """window.md N14"""

    async def work() -> None:
        async with cell() as at, at.host(Port.RELEASE) as host:
            with pytest.raises(StreamEnded, match="no-broker"):
                await host.ask(b"anything")

    run(work())
