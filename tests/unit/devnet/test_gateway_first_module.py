"""What the first module lets happen, shown on it, so that the tests of this one are known to be able to fail.

Each has its counterpart in test_gateway_answers.py, test_gateway_door.py or test_gateway_chat.py.
"""

from __future__ import annotations

import lzma
from pathlib import Path

import pytest

from anchorhold.host.answer_reports import Report
from devnet.gateway import Gateway, GatewayRefused, chat
from devnet.replica import Entry, Execution
from foundation.candid import BLOB, NAT64, Opt, Record, Variant, Vec, decode, encode
from tests.gateways import OWNER, REPORTER, SECOND_REPORTER, Bench, caller, person

FIRST_MODULE = Path(__file__).parents[2] / "vectors" / "gateway-first.wasm.xz"
BLOCKS = Record({"blocks": Vec(BLOB)})
TAKEN = Variant({"answered": Record({"answer": BLOB, "others": Opt(BLOB)})})
ALICE, STRANGER = caller(1), person(99)


@pytest.fixture
def first() -> Gateway:
    bench = Bench()
    bench.replica.install(lzma.decompress(FIRST_MODULE.read_bytes()))
    bench.gateway.set_reporters(OWNER, [REPORTER, SECOND_REPORTER])
    return bench.gateway


def test_garbage_that_comes_first_is_all_that_its_owner_gets(first: Gateway) -> None:
    first.submit_sealed(ALICE, b"x")
    first.seal_block(OWNER)
    assert first.report_answer(REPORTER, Report(1, 0, b"garbage", b"", b"")) == "recorded"
    assert first.report_answer(SECOND_REPORTER, Report(1, 0, b"honest", b"receipt", b"signature")) == "diverged"
    (taken,) = decode([TAKEN], first.replica.query("take_answer", encode([NAT64], [0]), ALICE))
    assert taken == ("answered", {"answer": b"garbage", "others": None})


def test_anybody_reads_prompts(first: Gateway) -> None:
    first.submit_chat(ALICE, chat("tiny", ("user", {"content": "my secret"})))
    first.seal_block(OWNER)
    (read,) = decode([BLOCKS], first.replica.query("get_slice", encode([NAT64, NAT64], [1, 1]), STRANGER))
    assert b"my secret" in read["blocks"][0]


def test_a_strangers_refused_message_runs(first: Gateway) -> None:
    ran: list[Execution] = []
    first.replica.network.observe = ran.append
    with pytest.raises(GatewayRefused, match=r"request\.payload_bytes"):
        first.submit_chat(STRANGER, chat("tiny", ("user", {"content": "x" * 1_000_000})))
    assert [each.entry for each in ran] == [Entry.INSPECT, Entry.UPDATE]
    assert ran[-1].fuel > 100_000_000


def test_one_unanswered_prompt_wedges_it(first: Gateway) -> None:
    first.set_history(OWNER, 40_000)
    first.submit_sealed(ALICE, bytes(1_000))
    first.seal_block(OWNER)
    while _kept(first) <= 40_000:
        first.submit_sealed(caller(2), bytes(2_000))
        sealed = first.seal_block(OWNER)
        assert sealed is not None
        first.report_answer(REPORTER, Report(sealed.height, 0, b"ok", b"r", b"s"))
    with pytest.raises(GatewayRefused, match=r"history\.full"):
        first.submit_sealed(caller(3), b"x")


def _kept(first: Gateway) -> int:
    (status,) = decode([Record({"history_bytes": NAT64})], first.replica.query("status", encode([], []), OWNER))
    return int(status["history_bytes"])


def test_nothing_seals_by_itself(first: Gateway) -> None:
    first.submit_sealed(ALICE, b"x")
    assert first.replica.timer_ns == 0


@pytest.mark.full
def test_sixty_four_callers_fill_the_queue(first: Gateway) -> None:
    for number in range(4_096):
        first.submit_sealed(person(1_000 + number // 64), b"x")
    with pytest.raises(GatewayRefused, match=r"queue\.full"):
        first.submit_sealed(ALICE, b"x")


def test_what_is_certified_is_the_link_alone(first: Gateway) -> None:
    first.submit_sealed(ALICE, b"x")
    first.seal_block(OWNER)
    before = first.replica.certified_data
    first.report_answer(REPORTER, Report(1, 0, b"answer", b"receipt", b"signature"))
    assert first.replica.certified_data == before
