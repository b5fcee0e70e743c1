"""The beacon of a block: drawn after its prompts are fixed, and what a failed draw leaves."""

from __future__ import annotations

import pytest

from anchorhold.host.gateway_client import Position, Waiting
from attestation.consensus.blocks import genesis
from devnet.gateway import Gateway
from devnet.lone_gateway import OWNER, REPORTER, canister
from devnet.replica import RejectCode, Rejected, Rejection, management
from devnet.subnet import GATEWAY
from tests.gateways import Bench, caller, certified_root
from tests.unit.devnet.gateway_calls import ALICE, BOB, STRANGER, blocks_of, refused


def test_prompts_are_fixed_before_the_beacon_is_drawn(bench: Bench) -> None:
    gateway = bench.gateway
    early = gateway.submit_sealed(ALICE, b"early")
    call = gateway.begin_seal(OWNER)
    late = gateway.submit_sealed(BOB, b"late")
    assert gateway.status()["fixed"] == 1
    bench.replica.settle()
    sealed = gateway.end_seal(call)
    assert sealed is not None
    assert sealed.count == 1
    assert gateway.take_answer(ALICE, early) == Position(1, 0, 0)
    assert gateway.take_answer(BOB, late) == Waiting()
    gateway.seal_block(OWNER)
    assert gateway.take_answer(BOB, late) == Position(2, 0, 1)


def test_the_beacon_is_the_subnets_and_new_in_each_block(bench: Bench) -> None:
    drawn: list[bytes] = []

    def randomness() -> bytes:
        drawn.append(bench.random.randbytes(32))
        return drawn[-1]

    bench.replica.network.randomness = randomness
    for number in range(3):
        bench.gateway.submit_sealed(caller(number), b"x")
        bench.gateway.seal_block(OWNER)
    assert [block.header.beacon for block in blocks_of(bench.gateway)] == drawn


def test_a_failed_draw_leaves_the_same_prompts_fixed(bench: Bench) -> None:
    gateway, replica = bench.gateway, bench.replica
    for number in range(3):
        gateway.submit_sealed(caller(number), b"kept %d" % number)
    call = gateway.begin_seal(OWNER)
    replica.deliver(replica.outstanding[0], Rejection(RejectCode.SYS_TRANSIENT, "no randomness"))
    with refused("beacon.unavailable"):
        gateway.end_seal(call)
    gateway.submit_sealed(STRANGER, b"later")
    assert replica.certified_data == certified_root(genesis(GATEWAY))

    gateway.upgrade()  # the fixed list survives this too
    gateway.seal_block(OWNER)
    (block,) = blocks_of(gateway)
    assert [request.payload.reveal() for request in block.requests] == [b"kept 0", b"kept 1", b"kept 2"]


def test_overlapping_draws_seal_one_block(bench: Bench) -> None:
    gateway, replica = bench.gateway, bench.replica
    gateway.submit_sealed(ALICE, b"x")
    calls = [gateway.begin_seal(OWNER) for _ in range(3)]
    last, first, failing = (replica.outstanding[at] for at in (2, 0, 1))
    replica.deliver(last)
    replica.deliver(failing, Rejection(RejectCode.SYS_TRANSIENT, "no randomness"))
    gateway.submit_sealed(BOB, b"y")
    replica.deliver(first)
    assert gateway.end_seal(calls[0]) == gateway.end_seal(calls[2])
    assert gateway.status()["head_height"] == 1
    assert gateway.status()["queued"] == 1


def test_a_beacon_of_the_wrong_size_seals_nothing(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    bench.gateway.submit_sealed(ALICE, b"x")
    call = bench.gateway.begin_seal(OWNER)
    short = b"DIDL\x01\x6d\x7b\x01\x00\x1f" + bytes(31)
    monkeypatch.setitem(management.METHODS, "raw_rand", lambda _: short)
    bench.replica.settle()
    with refused("beacon.size"):
        bench.gateway.end_seal(call)
    assert bench.gateway.status()["fixed"] == 1


def test_a_trap_after_the_draw_loses_nothing(bench: Bench) -> None:
    gateway, replica = bench.gateway, bench.replica
    gateway.submit_sealed(ALICE, b"x")
    call = gateway.begin_seal(OWNER)
    before, replica.canister.fuel_max = replica.canister.fuel_max, 2_000  # the callback runs out of instructions
    replica.settle()
    replica.canister.fuel_max = before
    with pytest.raises(Rejected):
        gateway.end_seal(call)
    assert replica.certified_data == certified_root(genesis(GATEWAY))
    sealed = gateway.seal_block(OWNER)
    assert sealed is not None
    assert (sealed.height, sealed.count) == (1, 1)


def test_an_empty_queue_seals_nothing_and_draws_nothing(bench: Bench) -> None:
    call = bench.gateway.begin_seal(OWNER)
    assert bench.replica.outstanding == ()
    assert bench.gateway.end_seal(call) is None


def test_only_reporters_and_controllers_seal(gateway: Gateway) -> None:
    gateway.submit_sealed(ALICE, b"x")
    with pytest.raises(Rejected, match="explicitly refused"):
        gateway.seal_block(ALICE)
    with refused("caller.not_allowed"):
        gateway.seal_block(canister(7))
    assert gateway.seal_block(REPORTER) is not None


def test_a_blocks_time_never_goes_back(bench: Bench) -> None:
    bench.gateway.submit_sealed(ALICE, b"x")
    bench.gateway.seal_block(OWNER)
    bench.clock.now_ns -= 10_000_000_000
    bench.gateway.submit_sealed(ALICE, b"x")
    bench.gateway.seal_block(OWNER)
    first, second = blocks_of(bench.gateway)
    assert second.header.time_ns == first.header.time_ns
