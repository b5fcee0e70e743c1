"""A thousand prompts of fifty callers, through calls that wait and through tickets, over an upgrade with a drain.

Every prompt is answered once: the answer comes through the call, or, where the call ended with its ticket, through the
ticket. Nothing is lost, nothing is ordered twice, and blocks seal by themselves.
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass
from random import Random

import pytest

from anchorhold.host.answer_reports import Report
from anchorhold.host.gateway_client import Answered, chat
from attestation.consensus.blocks import Block
from devnet.gateway import Gateway
from devnet.lone_gateway import OWNER, REPORTER, canister, receipt_for
from devnet.replica import Call, Rejected
from tests.gateways import Bench

PROMPTS = 1_000
CALLERS = 50
SECOND = 1_000_000_000
PENDING = re.compile(r"^chat\.pending: .*ticket (\d+)$")


@dataclass
class Prompt:
    caller: bytes
    words: str
    call: Call | None = None
    ticket: int | None = None


class Run:
    def __init__(self, seed: int) -> None:
        self.random = Random(seed)
        self.bench = Bench(seed)
        self.gateway: Gateway = self.bench.gateway
        self.prompts: list[Prompt] = []
        self.answered = 0
        self.blocks: list[Block] = []
        self.happened: Counter[str] = Counter()
        self.draining = False

    def submit(self) -> None:
        number = len(self.prompts)
        prompt = Prompt(canister(number % CALLERS), f"prompt {number}")
        request = chat("tiny", ("user", {"content": prompt.words}))
        waiting = sum(each.call is not None and each.call.outcome is None for each in self.prompts)
        if self.random.random() < 0.5 and waiting < 100 and not self.draining:
            prompt.call = self.gateway.begin_chat(prompt.caller, request)
        else:
            prompt.ticket = self.gateway.submit_chat(prompt.caller, request)
        self.prompts.append(prompt)

    def round(self) -> None:
        self.bench.clock.now_ns += SECOND
        self.bench.replica.network.round()

    def answer(self, blocks_behind: int) -> None:
        """A host reports every block but the newest ones."""
        head = self.gateway.status()["head_height"]
        for height in range(len(self.blocks) + 1, head + 1 - blocks_behind):
            block = Block.decode(self.gateway.get_slice(height, 1).encoded[0])
            for index, request in enumerate(block.requests):
                words = b"answer to %d" % request.id
                report = Report(height, index, words, receipt_for(block, index, words), b"")
                assert self.gateway.report_answer(REPORTER, report) == "recorded"
            self.blocks.append(block)

    def upgrade(self) -> None:
        with pytest.raises(Rejected, match="outstanding"):
            self.gateway.upgrade()
        self.gateway.set_draining(OWNER, True)
        self.draining = True
        self.happened["open at the drain"] = self.gateway.status()["open_calls"]
        for _ in range(3):
            self.submit()  # tickets are still given
        for _ in range(5):  # what stopping the canister would wait for
            self.round()
        assert self.bench.replica.outstanding == ()
        assert self.gateway.status()["open_calls"] == self.gateway.status()["draws"] == 0
        self.gateway.upgrade()
        self.draining = False

    def ticket_of(self, call: Call) -> int:
        """Of a call that ended without its answer."""
        with pytest.raises(Rejected) as rejected:
            call.reply()
        pending = PENDING.search(rejected.value.got)
        assert pending is not None, rejected.value.got
        self.happened["call ended with its ticket"] += 1
        return int(pending[1])

    def words_of(self, prompt: Prompt) -> str:
        if prompt.call is not None:
            if isinstance(prompt.call.outcome, bytes):
                self.happened["answered through the call"] += 1
                return str(self.gateway.end_chat(prompt.call).message["content"])
            prompt.ticket = self.ticket_of(prompt.call)
        assert prompt.ticket is not None
        taken = self.gateway.take_answer(prompt.caller, prompt.ticket)
        assert isinstance(taken, Answered)
        self.happened["answered through the ticket"] += 1
        return taken.answer.decode()


@pytest.mark.full
def test_a_thousand_prompts_over_an_upgrade_are_answered_once_each() -> None:
    run = Run(1)
    while len(run.prompts) < PROMPTS:
        for _ in range(run.random.randint(1, 60)):
            if len(run.prompts) < PROMPTS - 3 or run.happened["open at the drain"]:
                run.submit()
        run.round()
        run.answer(blocks_behind=run.random.randint(0, 1))
        if len(run.prompts) > PROMPTS // 2 and not run.happened["open at the drain"]:
            run.upgrade()
    for _ in range(20):
        run.round()
        run.answer(blocks_behind=0)
    assert run.gateway.status()["queued"] == run.gateway.status()["open_calls"] == 0

    requests = [request for block in run.blocks for request in block.requests]
    assert [request.id for request in requests] == list(range(len(run.prompts)))
    number_of = {
        word.group().decode(): request.id
        for request in requests
        if (word := re.search(rb"prompt \d+", request.payload.reveal())) is not None
    }
    assert len(number_of) == len(run.prompts)
    for prompt in run.prompts:
        assert run.words_of(prompt) == f"answer to {number_of[prompt.words]}"
    assert run.happened["open at the drain"] > 0
    assert run.happened["call ended with its ticket"] > 0
    assert run.happened["answered through the call"] > 100
    assert len(run.prompts) >= PROMPTS
