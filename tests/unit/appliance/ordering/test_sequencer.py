"""order.md O20 to O30: what the cell takes in, what it lets out, and what it will not be told."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import pairwise

import pytest

from appliance.ordering.refusals import Forked, OrderRefused
from appliance.ordering.sequencer import OrderedRequest, Sequencer, Step
from attestation.consensus.blocks import BlockRefused, Kind
from attestation.consensus.delegation import DelegationCache
from devnet.chain import CALLER, Chain
from devnet.misbehaviour import Misbehaviour
from devnet.subnet import GATEWAY, Subnet
from foundation.refusal import Refused

NOW = 1_700_000_000_000_000_000
SUBNET = Subnet(b"order", delegated=False)
SIZES = (2, 1, 3, 1, 2, 1, 1, 2)


def chain_of(count: int, seed: bytes = b"order") -> Chain:
    chain = Chain(SUBNET, GATEWAY, seed=seed)
    for k in range(count):
        extend(chain, SIZES[k % len(SIZES)])
    return chain


def extend(chain: Chain, size: int = 1, text: bytes = b"") -> None:
    height = chain.height + 1
    chain.seal([b"%d.%d%b" % (height, index, text) for index in range(size)], at(height))


def at(height: int) -> int:
    """The time block `height` is sealed. It is certified a second later, unless a test says otherwise."""
    return NOW + height * 10


CHAIN = chain_of(8)
FORK = CHAIN.branch(4, seed=b"fork")
for _ in range(4):
    extend(FORK, 2, b" otherwise")


def proof(first: int, last: int, chain: Chain = CHAIN, *, later: int = 1) -> bytes:
    return chain.proof(first, last, at(last) + later)


def fresh(plan_max: int = 4096) -> Sequencer:
    return Sequencer(root_key=SUBNET.root_key, canister=GATEWAY, plan_max=plan_max)


def run(sequencer: Sequencer, heights: Iterable[int], chain: Chain = CHAIN) -> list[OrderedRequest]:
    return [request for height in heights for request in sequencer.supply(chain.body(height))]


def standing(sequencer: Sequencer) -> tuple[object, ...]:
    """Everything a caller can see."""
    return sequencer.position, sequencer.wants, sequencer.certified_time_ns


def refuses(sequencer: Sequencer, propose: bytes) -> Refused:
    """The refusal of a proof, and that it changed nothing (O20)."""
    before = standing(sequencer)
    with pytest.raises(Refused) as refusal:
        sequencer.propose(propose)
    assert standing(sequencer) == before
    return refusal.value


def test_what_a_subnet_ordered_runs_in_that_order() -> None:
    # order.md O29, O30
    sequencer = fresh()
    verdict = sequencer.propose(proof(1, 8))
    assert (verdict.step, verdict.wants, verdict.through) == (Step.JOINED, 1, 8)
    released = run(sequencer, range(1, 9))
    assert [request.id for request in released] == list(range(sum(SIZES)))
    assert [(r.height, r.index) for r in released] == [(h + 1, i) for h in range(8) for i in range(SIZES[h])]
    third = released[3]
    block = CHAIN.blocks[2]
    assert third == OrderedRequest(
        height=3,
        index=0,
        id=3,
        caller=CALLER,
        kind=Kind.PLAIN,
        payload=block.requests[0].payload,
        beacon=block.header.beacon,
        link=CHAIN.link(3),
        request_digest=block.requests[0].digest(),
        block_time_ns=at(3),
        certified_time_ns=at(8) + 1,
    )
    assert third.payload.reveal() == b"3.0"
    assert "3.0" not in repr(third)
    assert sequencer.wants is None


def test_before_a_proof_there_is_no_position_and_no_body_is_taken() -> None:
    # order.md O20
    sequencer = fresh()
    assert standing(sequencer) == (None, None, 0)
    with pytest.raises(OrderRefused) as refusal:
        sequencer.supply(CHAIN.body(1))
    assert refusal.value.code == "order.not-joined"


@pytest.mark.parametrize("first", [1, 4, 8])
def test_a_cell_joins_before_the_first_header_it_is_shown(first: int) -> None:
    # order.md O21
    sequencer = fresh()
    assert sequencer.propose(proof(first, 8)).wants == first
    position = sequencer.position
    assert position is not None
    assert (position.height, position.link) == (first - 1, CHAIN.link(first - 1))
    assert position.next_id == sum(SIZES[: first - 1])
    assert [request.height for request in run(sequencer, [first])] == [first] * SIZES[first - 1]


def test_slices_of_any_cut_give_the_same_requests() -> None:
    # order.md O22, O23: two hosts cut differently; only the certified time may differ.
    whole, pieces = fresh(), fresh()
    whole.propose(proof(1, 8))
    expected = run(whole, range(1, 9))
    got: list[OrderedRequest] = []
    for first, last in ((1, 2), (2, 4), (1, 4), (5, 5), (3, 7), (8, 8)):
        pieces.propose(proof(first, last))
        if pieces.wants is not None:
            got += run(pieces, range(pieces.wants, last + 1))
    assert [_shared(request) for request in got] == [_shared(request) for request in expected]


def _shared(request: OrderedRequest) -> tuple[object, ...]:
    return tuple(getattr(request, name) for name in OrderedRequest.__slots__ if name != "certified_time_ns")


@pytest.mark.parametrize(
    ("first", "last", "step"),
    [
        (5, 6, Step.EXTENDED),
        (4, 6, Step.OVERLAPPED),
        (1, 6, Step.OVERLAPPED),
        (3, 4, Step.CURRENT),
        (1, 3, Step.STALE),
        (3, 3, Step.STALE),
    ],
)
@pytest.mark.parametrize("done", [0, 2, 4])
def test_a_slice_is_placed_against_what_is_proven(first: int, last: int, step: Step, done: int) -> None:
    # order.md O23, O26: however far the bodies have come.
    sequencer = fresh()
    sequencer.propose(proof(1, 4))
    run(sequencer, range(1, done + 1))
    verdict = sequencer.propose(proof(first, last))
    assert (verdict.step, verdict.through) == (step, max(4, last))
    assert verdict.wants == (done + 1 if done < max(4, last) else None)
    assert verdict.certified_time_ns == max(at(4), at(last)) + 1


def test_a_gap_is_refused_and_says_what_is_needed() -> None:
    # order.md O24
    sequencer = fresh()
    sequencer.propose(proof(1, 3))
    refusal = refuses(sequencer, proof(5, 8))
    assert (refusal.code, refusal.got) == ("order.gap", "5")
    assert refusal.expected == "a slice from height 4 or below"
    assert sequencer.propose(proof(4, 8)).wants == 1


@pytest.mark.parametrize("done", [0, 4, 5, 6])
@pytest.mark.parametrize("first", [1, 5, 6, 7])
def test_another_history_raises_the_alarm_and_changes_nothing(first: int, done: int) -> None:
    # order.md O25: blocks 1 to 4 are shared, 5 and on are not.
    sequencer = fresh()
    sequencer.propose(proof(1, 6))
    run(sequencer, range(1, done + 1))
    refusal = refuses(sequencer, proof(first, 8, FORK))
    assert isinstance(refusal, Forked)
    lowest_held_by_both = max(first - 1, done, 5)
    assert (refusal.code, refusal.height) == ("order.fork", lowest_held_by_both)
    assert (refusal.ours, refusal.theirs) == (CHAIN.link(refusal.height), FORK.link(refusal.height))
    assert refusal.ours.hex() in str(refusal)
    assert refusal.theirs.hex() in str(refusal)
    assert sequencer.propose(proof(7, 8)).step is Step.EXTENDED
    assert [request.height for request in run(sequencer, range(done + 1, 9))][-1] == 8


def test_a_fork_at_the_very_next_block_is_seen_in_its_parent() -> None:
    # order.md O25
    sequencer = fresh()
    sequencer.propose(proof(1, 6))
    run(sequencer, range(1, 7))
    refusal = refuses(sequencer, proof(7, 8, FORK))
    assert isinstance(refusal, Forked)
    assert refusal.height == 6


def test_a_chain_that_shrank_is_a_rewind() -> None:
    # order.md O26: certified later, and yet less of it.
    sequencer = fresh()
    sequencer.propose(proof(1, 6))
    run(sequencer, range(1, 7))
    refusal = refuses(sequencer, proof(1, 3, later=1000))
    assert isinstance(refusal, Forked)
    assert (refusal.code, refusal.height) == ("order.rewind", 3)
    reinstalled = chain_of(2, seed=b"again")
    assert refuses(sequencer, reinstalled.proof(1, 2, at(9))).code == "order.rewind"


def test_a_chain_that_was_longer_before_is_a_rewind() -> None:
    # order.md O26
    sequencer = fresh()
    sequencer.propose(proof(1, 3, later=1000))
    assert refuses(sequencer, proof(1, 6)).code == "order.rewind"


def test_less_of_the_chain_at_the_same_time_is_stale() -> None:
    # order.md O26
    sequencer = fresh()
    sequencer.propose(proof(1, 4))
    assert sequencer.propose(CHAIN.proof(1, 3, at(4) + 1)).step is Step.STALE
    assert sequencer.propose(CHAIN.proof(1, 4, at(4) + 1)).step is Step.CURRENT


def test_certified_time_is_the_newest_and_never_falls() -> None:
    # order.md O27
    sequencer = fresh()
    times = [sequencer.certified_time_ns]
    for raw in (proof(1, 3), proof(1, 6), proof(2, 4), proof(6, 6, later=500), proof(6, 6), proof(1, 6)):
        sequencer.propose(raw)
        times.append(sequencer.certified_time_ns)
    assert all(earlier <= later for earlier, later in pairwise(times))
    assert times[-1] == at(6) + 500


def test_a_refresh_of_the_same_head_moves_the_clock_alone() -> None:
    # order.md O26, O27
    sequencer = fresh()
    sequencer.propose(proof(1, 2))
    run(sequencer, (1, 2))
    before = sequencer.position
    verdict = sequencer.propose(proof(2, 2, later=77))
    assert (verdict.step, verdict.wants, verdict.certified_time_ns) == (Step.CURRENT, None, at(2) + 77)
    assert sequencer.position == before


def test_the_plan_has_room_for_so_many_blocks_and_no_more() -> None:
    # order.md O28
    sequencer = fresh(plan_max=3)
    assert refuses(sequencer, proof(1, 4)).code == "order.plan-full"
    sequencer.propose(proof(1, 3))
    assert refuses(sequencer, proof(3, 4)).code == "order.plan-full"
    run(sequencer, (1,))
    assert sequencer.propose(proof(3, 4)).through == 4
    assert len(sequencer._plan) == 3


def test_a_body_comes_once_and_only_at_its_turn() -> None:
    # order.md O22, O29
    sequencer = fresh()
    sequencer.propose(proof(2, 4))
    for ahead, code in ((3, "order.gap"), (8, "order.gap")):
        with pytest.raises(OrderRefused) as refusal:
            sequencer.supply(CHAIN.body(ahead))
        assert (refusal.value.code, refusal.value.expected) == (code, "height 2")
    assert len(run(sequencer, (2,))) == SIZES[1]
    assert run(sequencer, (2, 1, 2)) == []
    assert len(run(sequencer, (3, 4))) == SIZES[2] + SIZES[3]
    with pytest.raises(OrderRefused) as refusal:
        sequencer.supply(CHAIN.body(5))
    assert refusal.value.code == "order.unproven"


@pytest.mark.parametrize(
    ("lie", "code"),
    [
        (Misbehaviour.REQUEST_LEFT_OUT, "slice.count"),
        (Misbehaviour.REQUEST_ADDED, "slice.count"),
        (Misbehaviour.REQUESTS_REORDERED, "slice.id"),
        (Misbehaviour.REQUEST_CHANGED, "slice.request-root"),
    ],
)
def test_a_body_that_is_not_its_headers_releases_nothing(lie: Misbehaviour, code: str) -> None:
    # order.md O6, O20, O29
    sequencer = fresh()
    sequencer.propose(proof(1, 3))
    run(sequencer, (1, 2))
    before = standing(sequencer)
    with pytest.raises(BlockRefused) as refusal:
        sequencer.supply(CHAIN.body(3, misbehaviour=lie))
    assert refusal.value.code == code
    assert standing(sequencer) == before
    assert len(run(sequencer, (3,))) == SIZES[2]


def test_a_body_of_another_history_releases_nothing() -> None:
    sequencer = fresh()
    sequencer.propose(proof(5, 5))
    with pytest.raises(BlockRefused):
        sequencer.supply(FORK.body(5))


def test_what_a_refused_body_held_is_not_in_the_refusal() -> None:
    sequencer = fresh()
    sequencer.propose(proof(1, 1))
    chain = Chain(SUBNET, GATEWAY, seed=b"secret")
    chain.seal([b"a secret of mine", b"another"], NOW)
    with pytest.raises(BlockRefused) as refusal:
        sequencer.supply(chain.body(1))
    said = f"{refusal.value} {refusal.value.args}"
    assert "secret" not in said
    assert b"secret".hex() not in said


def test_a_delegated_subnet_and_its_cache_serve_as_well() -> None:
    subnet = Subnet(b"delegated")
    chain = Chain(subnet, GATEWAY, seed=b"", blocks=CHAIN.blocks)
    sequencer = Sequencer(root_key=subnet.root_key, canister=GATEWAY, cache=DelegationCache())
    for last in (2, 3, 4):
        sequencer.propose(proof(1, last, chain))
    assert len(run(sequencer, range(1, 5), chain)) == sum(SIZES[:4])


def test_a_plan_without_room_is_a_mistake_of_ours() -> None:
    with pytest.raises(ValueError, match="at least one"):
        fresh(plan_max=0)
