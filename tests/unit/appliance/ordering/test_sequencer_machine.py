"""order.md O20 to O30 under any order of calls: a sequencer beside a model that knows every link.

Hosts propose, supply, lie, and restart the cell. What must come out is a run of one chain: nothing skipped, nothing
exchanged, nothing twice.
"""

from __future__ import annotations

from functools import cache

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from appliance.ordering.refusals import Forked, OrderRefused
from appliance.ordering.sequencer import OrderedRequest, Sequencer
from attestation.consensus.blocks import BlockRefused
from attestation.consensus.refusals import ConsensusRefused
from devnet.chain import Chain
from devnet.misbehaviour import Misbehaviour
from devnet.subnet import GATEWAY, Subnet
from foundation.refusal import Refused

NOW = 1_700_000_000_000_000_000
HEIGHT = 7
SHARED = 3
PLAN_MAX = 5
SUBNET = Subnet(b"machine", delegated=False)


def _chain(base: Chain, name: bytes) -> Chain:
    while base.height < HEIGHT:
        height = base.height + 1
        base.seal([b"%b %d.%d" % (name, height, k) for k in range(1 + height % 3)], NOW + height * 10)
    return base


HONEST = _chain(Chain(SUBNET, GATEWAY, seed=b"honest"), b"honest")
FORKED = _chain(HONEST.branch(SHARED, seed=b"forked"), b"forked")

chains = st.sampled_from([HONEST, HONEST, HONEST, FORKED])
heights = st.integers(1, HEIGHT)
delays = st.sampled_from([1, 1, 1, 15, 1000])
LIES = (Misbehaviour.REQUEST_LEFT_OUT, Misbehaviour.REQUEST_ADDED, Misbehaviour.REQUEST_CHANGED)
FORGERIES = (
    Misbehaviour.WRONG_KEY,
    Misbehaviour.WRONG_CANISTER,
    Misbehaviour.FLIPPED_SIGNATURE,
    Misbehaviour.FORGED_HEAD,
    Misbehaviour.REPEATED,
)


@cache
def proof(chain: Chain, first: int, last: int, delay: int, lie: Misbehaviour | None = None) -> bytes:
    return chain.proof(first, last, NOW + last * 10 + delay, misbehaviour=lie)


class Cell(RuleBasedStateMachine):
    """The model holds `links` from the position to the plan's end, and what came out since the last start."""

    @initialize()
    def start(self) -> None:
        self.sequencer = Sequencer(root_key=SUBNET.root_key, canister=GATEWAY, plan_max=PLAN_MAX)
        self.links: dict[int, bytes] = {}
        self.done = 0
        self.end = 0
        self.time_ns = 0
        self.out: list[OrderedRequest] = []

    @rule(chain=chains, one=heights, other=heights, delay=delays)
    def propose(self, chain: Chain, one: int, other: int, delay: int) -> None:
        first, last = min(one, other), max(one, other)
        expected = self._expected(chain, first, last, NOW + last * 10 + delay)
        raw = proof(chain, first, last, delay)
        if expected is not None:
            self._refuses(raw, expected)
            return
        self.sequencer.propose(raw)
        if not self.links:
            self.done = self.end = first - 1
            self.links[first - 1] = chain.link(first - 1)
        for height in range(self.end + 1, last + 1):
            self.links[height] = chain.link(height)
        self.end = max(self.end, last)
        self.time_ns = max(self.time_ns, NOW + last * 10 + delay)

    def _expected(self, chain: Chain, first: int, last: int, time_ns: int) -> str | None:
        """The code with which this slice must be refused, if it must."""
        if not self.links:
            return "order.plan-full" if last - first + 1 > PLAN_MAX else None
        if first > self.end + 1:
            return "order.gap"
        both = [height for height in range(first - 1, last + 1) if height in self.links]
        if any(self.links[height] != chain.link(height) for height in both):
            return "order.fork"
        if (time_ns > self.time_ns and last < self.end) or (time_ns < self.time_ns and last > self.end):
            return "order.rewind"
        return "order.plan-full" if last - self.done > PLAN_MAX else None

    def _refuses(self, raw: bytes, code: str) -> None:
        with pytest.raises(OrderRefused) as refused:
            self.sequencer.propose(raw)
        refusal = refused.value
        assert refusal.code == code
        if code == "order.fork":
            assert isinstance(refusal, Forked)
            assert refusal.ours == self.links[refusal.height] != refusal.theirs

    @rule(chain=chains, one=heights, other=heights, lie=st.sampled_from(FORGERIES))
    def propose_a_forgery(self, chain: Chain, one: int, other: int, lie: Misbehaviour) -> None:
        with pytest.raises(ConsensusRefused):
            self.sequencer.propose(proof(chain, min(one, other), max(one, other), 1, lie))

    @rule(chain=chains, height=heights)
    def supply(self, chain: Chain, height: int) -> None:
        turn = height == self.done + 1 <= self.end and bool(self.links)
        real = self.links.get(height) == chain.link(height)
        try:
            released = self.sequencer.supply(chain.body(height))
        except Refused:
            assert not (turn and real)
            assert not self.links or height > self.done
            return
        if not turn:
            assert released == ()
            assert height <= self.done
            return
        assert real
        assert released
        del self.links[self.done]
        self.done = height
        self.out += released

    @precondition(lambda self: self.done < self.end)
    @rule(count=st.integers(1, HEIGHT))
    def supply_what_is_wanted(self, count: int) -> None:
        for _ in range(min(count, self.end - self.done)):
            wanted = self.sequencer.wants
            assert wanted == self.done + 1
            chain = HONEST if HONEST.link(wanted) == self.links[wanted] else FORKED
            self.supply(chain, wanted)

    @precondition(lambda self: self.done < self.end)
    @rule(lie=st.sampled_from(LIES), chain=chains)
    def supply_a_lie(self, lie: Misbehaviour, chain: Chain) -> None:
        if lie is Misbehaviour.REQUEST_LEFT_OUT and chain.blocks[self.done].header.count == 1:
            return
        with pytest.raises(BlockRefused):
            self.sequencer.supply(chain.body(self.done + 1, misbehaviour=lie))

    @rule()
    def restart(self) -> None:
        """A new process knows nothing, and joins wherever a host has it join."""
        self.start()

    @invariant()
    def position_is_the_models(self) -> None:
        position = self.sequencer.position
        if not self.links:
            assert position is None
            return
        assert position is not None
        assert (position.height, position.link) == (self.done, self.links[self.done])
        assert self.sequencer.wants == (self.done + 1 if self.end > self.done else None)
        assert self.sequencer.certified_time_ns == self.time_ns

    @invariant()
    def what_came_out_is_a_run_of_one_chain(self) -> None:
        if not self.out:
            return
        chain = HONEST if self.out[-1].link == HONEST.link(self.out[-1].height) else FORKED
        expected = [
            (block.header.height, index, request.id, request.payload.reveal(), block.header.beacon)
            for block in chain.blocks[self.out[0].height - 1 : self.out[-1].height]
            for index, request in enumerate(block.requests)
        ]
        assert [(r.height, r.index, r.id, r.payload.reveal(), r.beacon) for r in self.out] == expected

    @invariant()
    def memory_is_bounded(self) -> None:
        assert len(self.sequencer._plan) <= PLAN_MAX


Cell.TestCase.settings = settings(max_examples=150, stateful_step_count=30, deadline=None)
TestCell = Cell.TestCase
