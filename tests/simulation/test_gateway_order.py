"""A thousand prompts of fifty callers, in an order a seed chooses, through failed draws, traps and upgrades.

order.md O1, O4, O5, O6, O10, held at every step by a model that shares nothing with the canister: nothing is
lost, nothing comes twice, ids are consecutive, a caller's prompts keep their order, callers take turns, and
the chain recomputed from the blocks is what is certified. A cell beside it sees slices and nothing else, at
moments of the seed's choosing and with overlaps, and runs exactly that order.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass, field
from random import Random

import pytest

from anchorhold.host.answer_reports import Report
from anchorhold.host.gateway_client import Answered, GatewayRefused, Position, Waiting
from appliance.ordering.sequencer import Sequencer
from attestation.consensus.blocks import Block, genesis
from attestation.consensus.delegation import DelegationCache
from attestation.consensus.slices import SliceProof, verify_slice
from devnet.lone_gateway import OWNER, REPORTER, SECOND_REPORTER, canister, receipt_for
from devnet.replica import Call, RejectCode, Rejected, Rejection
from devnet.subnet import GATEWAY
from tests.gateways import Bench, caller

PROMPTS = 1_000
CALLERS = 50
HEAVY_CALLERS = 3
STARVED_OF_FUEL = 3_000


@dataclass
class Prompt:
    caller: bytes
    payload: bytes
    ticket: int
    step: int


@dataclass
class Fix:
    """The moment a block's prompts were fixed: what waited then, and how many draws had been made."""

    waiting: Counter[bytes]
    step: int
    draws: int


@dataclass
class Run:
    seed: int
    bench: Bench = field(init=False)
    step: int = 0
    prompts: list[Prompt] = field(default_factory=list)
    waiting: Counter[bytes] = field(default_factory=Counter)
    fixes: list[Fix] = field(default_factory=list)
    draws: list[bytes] = field(default_factory=list)
    blocks: list[Block] = field(default_factory=list)
    calls: list[Call] = field(default_factory=list)
    ran: list[tuple[int, int, int, bytes, bytes]] = field(default_factory=list)
    happened: Counter[str] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        self.random = Random(self.seed)
        self.bench = Bench(self.seed)
        self.gateway, self.replica = self.bench.gateway, self.bench.replica
        self.replica.network.randomness = self.draw
        self.cell = Sequencer(root_key=self.bench.subnet.root_key, canister=GATEWAY, cache=DelegationCache())

    def draw(self) -> bytes:
        self.draws.append(self.bench.random.randbytes(32))
        return self.draws[-1]

    # ---- what may happen

    def submit(self) -> None:
        number = self.random.randrange(HEAVY_CALLERS if self.random.random() < 0.5 else CALLERS)
        payload = b"%d of %d" % (len(self.prompts), number) + bytes(self.random.randrange(200))
        try:
            ticket = self.gateway.submit_sealed(caller(number), payload)
        except Rejected:
            # The model still counts what is fixed and not sealed, so it may see more than the canister does.
            assert self.gateway.admission_refusal(caller(number)) == "queue.caller_full"
            assert self.waiting[caller(number)] >= 64
            self.happened["queue full"] += 1
            return
        self.prompts.append(Prompt(caller(number), payload, ticket, self.step))
        self.waiting[caller(number)] += 1

    def starve(self) -> None:
        """A submission that runs out of instructions leaves nothing behind."""
        before = self.gateway.status()
        allowed, self.replica.canister.fuel_max = self.replica.canister.fuel_max, STARVED_OF_FUEL
        with pytest.raises(Rejected):
            self.gateway.submit_sealed(canister(0), b"never taken")
        self.replica.canister.fuel_max = allowed
        assert self.gateway.status() == before
        self.happened["trap"] += 1

    def begin_seal_in_time(self) -> None:
        """Sealing pauses now and then, so that more waits than a block can take."""
        if len(self.prompts) % 500 >= 400:
            self.begin_seal()

    def begin_seal(self) -> None:
        fixed_before = self.gateway.status()["fixed"]
        self.calls.append(self.gateway.begin_seal(self.random.choice([OWNER, REPORTER])))
        fixed = self.gateway.status()["fixed"]
        if fixed_before == 0 and fixed > 0:
            self.fixes.append(Fix(Counter(self.waiting), self.step, len(self.draws)))

    def deliver(self) -> None:
        if not self.replica.outstanding:
            return
        call = self.random.choice(self.replica.outstanding)
        chance = self.random.random()
        if chance < 0.2:
            self.replica.deliver(call, Rejection(RejectCode.SYS_TRANSIENT, "no randomness now"))
            self.happened["failed draw"] += 1
        elif chance < 0.4:
            allowed, self.replica.canister.fuel_max = self.replica.canister.fuel_max, STARVED_OF_FUEL
            self.replica.deliver(call)
            self.replica.canister.fuel_max = allowed
            self.happened["trapped callback"] += 1
        else:
            self.replica.deliver(call)

    def upgrade(self) -> None:
        before, head = self.gateway.status(), self.replica.certified_data
        if self.replica.outstanding:
            with pytest.raises(Rejected, match="outstanding"):
                self.gateway.upgrade()
            self.happened["refused upgrade"] += 1
        else:
            self.gateway.upgrade()
            self.happened["upgrade"] += 1
        assert self.gateway.status() == before
        assert self.replica.certified_data == head

    def answer(self) -> None:
        if not self.blocks:
            return
        block = self.random.choice(self.blocks)
        index = self.random.randrange(len(block.requests))
        answer = b"answer to %d" % block.requests[index].id
        self.gateway.report_answer(
            self.random.choice([REPORTER, SECOND_REPORTER]),
            Report(block.header.height, index, answer, receipt_for(block, index, answer), b"signature"),
        )

    def show_cell(self) -> None:
        """A host brings the cell a slice that begins anywhere up to what the cell has."""
        behind = self.cell.position.height if self.cell.position else 0
        found = self.gateway.proof_and_bodies(self.random.randint(1, behind + 1)) if behind else None
        if found is None:
            found = self.gateway.proof_and_bodies(behind + 1)
        if found is None:
            return
        proof, bodies = found
        step = self.cell.propose(proof).step.value
        self.happened[f"slice {step}"] += 1
        for body in bodies:
            self.ran += [
                (each.height, each.index, each.id, each.caller, each.payload.reveal())
                for each in self.cell.supply(body)
            ]

    # ---- what must hold

    def read_new_blocks(self) -> None:
        slice_ = self.gateway.get_slice(len(self.blocks) + 1)
        for raw in slice_.encoded:
            self.append(Block.decode(raw))
        assert slice_.head_height == len(self.blocks)
        head = self.blocks[-1].header.link() if self.blocks else genesis(GATEWAY)
        assert slice_.head_link == head
        assert slice_.certificate is not None
        if self.blocks:
            headers = tuple([block.header for block in self.blocks[-3:]])
            verify_slice(
                SliceProof(slice_.certificate, headers, slice_.tree),
                root_key=self.bench.subnet.root_key,
                canister=GATEWAY,
            )

    def append(self, block: Block) -> None:
        header = block.header
        before = self.blocks[-1].header if self.blocks else None
        assert header.canister == GATEWAY
        assert header.height == len(self.blocks) + 1
        assert header.parent == (before.link() if before else genesis(GATEWAY))
        assert header.first_id == (before.next_id if before else 0)
        assert before is None or header.time_ns >= before.time_ns
        self.check_fixed_before_drawn(block)
        self.check_turns(block)
        self.blocks.append(block)
        self.waiting.subtract(request.caller for request in block.requests)

    def check_fixed_before_drawn(self, block: Block) -> None:
        fix = self.fixes[len(self.blocks)]
        assert block.header.beacon in self.draws[fix.draws :]
        submitted = {prompt.payload: prompt.step for prompt in self.prompts}
        assert all(submitted[request.payload.reveal()] <= fix.step for request in block.requests)

    def check_turns(self, block: Block) -> None:
        """Nobody who still waits after a block got two turns fewer than anybody in it."""
        waited = self.fixes[len(self.blocks)].waiting
        taken = Counter(request.caller for request in block.requests)
        assert all(taken[who] <= waited[who] for who in taken)
        left = [who for who in waited if waited[who] > taken[who]]
        most = max(taken.values())
        assert all(most - taken[who] <= 1 for who in left)
        if left:
            self.happened["contended block"] += 1

    def check_everything_arrived(self) -> None:
        requests = [request for block in self.blocks for request in block.requests]
        assert [request.id for request in requests] == list(range(PROMPTS))
        ordered: dict[bytes, list[bytes]] = defaultdict(list)
        submitted: dict[bytes, list[bytes]] = defaultdict(list)
        for request in requests:
            ordered[request.caller].append(request.payload.reveal())
        for prompt in self.prompts:
            submitted[prompt.caller].append(prompt.payload)
        assert ordered == submitted

    def check_the_cell(self) -> None:
        self.show_cell()
        assert self.ran == [
            (block.header.height, index, request.id, request.caller, request.payload.reveal())
            for block in self.blocks
            for index, request in enumerate(block.requests)
        ]
        assert self.cell.position is not None
        assert self.cell.position.link == self.gateway.status()["head_link"]

    def check_tickets(self) -> None:
        place = {
            request.payload.reveal(): Position(block.header.height, index, request.id)
            for block in self.blocks
            for index, request in enumerate(block.requests)
        }
        for prompt in self.random.sample(self.prompts, 100):
            taken = self.gateway.take_answer(prompt.caller, prompt.ticket)
            assert not isinstance(taken, Waiting)
            position = taken.position if isinstance(taken, Answered) else taken
            assert position == place[prompt.payload]
            if isinstance(taken, Answered):
                assert taken.answer == b"answer to %d" % position.id
            with pytest.raises(GatewayRefused):
                self.gateway.take_answer(b"\x02stranger", prompt.ticket)

    # ---- the run

    def go(self) -> None:
        likely = [(self.submit, 100), (self.deliver, 8), (self.begin_seal_in_time, 16), (self.answer, 6)]
        seldom = [(self.starve, 1), (self.upgrade, 2), (self.show_cell, 2)]
        actions, weights = zip(*likely, *seldom, strict=True)
        while len(self.prompts) < PROMPTS:
            self.step += 1
            self.random.choices(actions, weights)[0]()
            self.read_new_blocks()
        while self.waiting.total() or self.gateway.status()["fixed"]:
            self.step += 1
            self.begin_seal()
            self.deliver()
            self.read_new_blocks()
        self.replica.settle()
        self.read_new_blocks()


@pytest.mark.parametrize("seed", [1, 2])
def test_a_thousand_prompts_in_a_seeded_order(seed: int) -> None:
    run = Run(seed)
    run.go()
    run.check_everything_arrived()
    run.check_the_cell()
    run.check_tickets()
    assert run.replica.outstanding == ()
    # A run in which nothing went wrong would show nothing.
    assert set(run.happened) >= {"trap", "failed draw", "trapped callback", "upgrade", "refused upgrade"}
    assert run.happened["contended block"] > 0
    assert run.happened["queue full"] > 0
    assert run.happened["slice overlapped"] > 0


def test_one_seed_is_one_run() -> None:
    first, second = Run(3), Run(3)
    for run in (first, second):
        for _ in range(60):
            run.submit()
        run.begin_seal()
        run.deliver()
        run.replica.settle()
    assert first.replica.certified_data == second.replica.certified_data
    assert first.gateway.get_slice(1).encoded == second.gateway.get_slice(1).encoded
