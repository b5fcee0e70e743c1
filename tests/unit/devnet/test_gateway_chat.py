"""The LLM canister's calls on the gateway: they wait for the answer, and are bounded, drained and told of refusals."""

from __future__ import annotations

import re

import pytest

from anchorhold.host.gateway_client import Answered, GatewayRefused, Position, Waiting, chat
from attestation.consensus.chat import Argument, AssistantMessage, ToolCall, encode_message
from attestation.receipts.outcome import Finish
from devnet.gateway import Gateway
from devnet.lone_gateway import OWNER, REPORTER, canister, person, report_on
from devnet.replica import Call, NotAnswered, RejectCode, Rejected, Rejection
from foundation.secrecy import Prompt
from tests.gateways import Bench
from tests.unit.devnet.gateway_calls import ask

APP, ALICE, BOB = canister(0x77), person(1), person(2)
SECOND = 1_000_000_000
V0 = {
    "model": "tiny",
    "messages": [{"role": ("system", None), "content": "be brief"}, {"role": ("user", None), "content": "hello"}],
}


def step(bench: Bench, seconds: int = 1) -> None:
    """A round: time passes, and everything outstanding is delivered once."""
    bench.clock.now_ns += seconds * SECOND
    bench.replica.fire_timer()
    for call in bench.replica.outstanding:
        bench.replica.deliver(call)


def rejected(call: Call, pattern: str) -> re.Match[str]:
    with pytest.raises(Rejected) as refusal:
        call.reply()
    found = re.search(pattern, refusal.value.got)
    assert found is not None, refusal.value.got
    return found


def test_a_call_waits_until_there_is_an_answer_and_returns_it(bench: Bench) -> None:
    gateway = bench.gateway
    call = gateway.begin_chat(APP, ask())
    for _ in range(3):
        step(bench)
        with pytest.raises(NotAnswered):
            gateway.end_chat(call)
    assert gateway.status()["head_height"] == 1  # sealed by the draws that the call waits by
    reported = report_on(gateway, 1, 0, b"good day")
    assert gateway.report_answer(REPORTER, reported) == "recorded"
    step(bench)
    reply = gateway.end_chat(call)
    assert reply.message == {"content": "good day", "tool_calls": []}
    assert (reply.position, reply.receipt) == (Position(1, 0, 0), reported.receipt)
    assert reply.digest == gateway.answer_digest(1, 0)
    assert reply.signatures == ((REPORTER, b"signature"),)
    assert gateway.status()["open_calls"] == 0
    taken = gateway.take_answer(APP, reply.ticket)
    assert isinstance(taken, Answered)
    assert taken.answer == b"good day"


def test_the_older_call_takes_roles_and_returns_text(bench: Bench) -> None:
    gateway = bench.gateway
    call = gateway.begin_chat_v0(APP, V0)
    step(bench)
    gateway.report_answer(REPORTER, report_on(gateway, 1, 0, b"good day"))
    step(bench)
    assert gateway.end_chat_v0(call) == "good day"


def test_tools_that_are_called_come_out_as_the_llm_canister_has_them(bench: Bench) -> None:
    gateway = bench.gateway
    text = Prompt
    spoken = AssistantMessage(
        text(b"one moment"), (ToolCall(text(b"call-1"), text(b"weather"), (Argument(text(b"city"), text(b"Bern")),)),)
    )
    call = gateway.begin_chat(APP, ask())
    step(bench)
    answer = encode_message(spoken)
    gateway.report_answer(REPORTER, report_on(gateway, 1, 0, answer, finish=Finish.TOOL_CALLS))
    step(bench)
    arguments = [{"name": "city", "value": "Bern"}]
    assert gateway.end_chat(call).message == {
        "content": "one moment",
        "tool_calls": [{"id": "call-1", "function": {"name": "weather", "arguments": arguments}}],
    }


@pytest.mark.parametrize(
    ("answer", "finish", "code"),
    [
        (b"", "chat.max-tokens", "chat.max-tokens"),
        (b"\xff", Finish.STOP, "answer.form"),
        (b"not a message", Finish.TOOL_CALLS, "answer.form"),
        (b"\x81\x01", Finish.TOOL_CALLS, "answer.form"),
    ],
)
def test_what_is_no_answer_is_a_rejection_with_its_code(
    bench: Bench, answer: bytes, finish: Finish | str, code: str
) -> None:
    call = bench.gateway.begin_chat(APP, ask())
    step(bench)
    bench.gateway.report_answer(REPORTER, report_on(bench.gateway, 1, 0, answer, finish=finish))
    step(bench)
    rejected(call, f"^{code}")
    assert bench.gateway.status()["open_calls"] == 0


def test_a_request_beyond_a_limit_is_rejected_by_name(bench: Bench) -> None:
    rejected(bench.gateway.begin_chat(APP, chat("two words", ("user", {"content": ""}))), r"^request\.model_characters")
    rejected(bench.gateway.begin_chat_v0(APP, {**V0, "messages": []}), r"^request\.messages_empty")
    assert bench.gateway.status()["queued"] == 0


def test_patience_ends_with_the_ticket_and_the_answer_comes_later(bench: Bench) -> None:
    gateway = bench.gateway
    call = gateway.begin_chat(APP, ask())
    step(bench)
    step(bench, 291)
    ticket = int(rejected(call, r"^chat\.pending: .*ticket (\d+)$")[1])
    assert gateway.status()["open_calls"] == 0
    assert gateway.take_answer(APP, ticket) == Position(1, 0, 0)
    gateway.report_answer(REPORTER, report_on(gateway, 1, 0, b"late"))
    taken = gateway.take_answer(APP, ticket)
    assert isinstance(taken, Answered)
    assert taken.answer == b"late"


def test_a_failed_draw_ends_the_call_and_not_the_prompt(bench: Bench) -> None:
    gateway = bench.gateway
    call = gateway.begin_chat(APP, ask())
    bench.replica.deliver(bench.replica.outstanding[-1], Rejection(RejectCode.SYS_TRANSIENT, "no randomness"))
    ticket = int(rejected(call, r"ticket (\d+)$")[1])
    assert (gateway.status()["open_calls"], gateway.status()["draws"]) == (0, 0)
    sealed = gateway.seal_block(OWNER)
    assert sealed is not None
    assert sealed.count == 1
    assert gateway.take_answer(APP, ticket) == Position(1, 0, 0)


def test_prompts_of_calls_that_wait_together_share_a_block(bench: Bench) -> None:
    gateway = bench.gateway
    step(bench)
    first = [gateway.begin_chat(canister(number), ask()) for number in range(3)]
    for _ in range(3):
        step(bench)
    heights = gateway.status()["head_height"]
    assert heights == 2  # the first call fixed itself at once; the others came while its beacon was drawn
    for height in range(1, heights + 1):
        _, entries = gateway.get_entries(height, OWNER) or (None, ())
        for index in range(len(entries)):
            gateway.report_answer(REPORTER, report_on(gateway, height, index, b"%d" % height))
    step(bench)
    assert {gateway.end_chat(call).message["content"] for call in first} == {"1", "2"}


# ---- bounds


def test_open_calls_are_bounded_for_each_caller_and_in_all(bench: Bench) -> None:
    gateway = bench.gateway
    limits = gateway.limits()
    for _ in range(4):
        gateway.begin_chat(ALICE, ask())
    with pytest.raises(Rejected, match="explicitly refused"):
        gateway.begin_chat(ALICE, ask()).reply()
    gateway.begin_chat(BOB, ask())
    each = limits["open_calls_per_canister_max"]
    for number in range(3):
        for _ in range(each):
            gateway.begin_chat(canister(number), ask())
        rejected(gateway.begin_chat(canister(number), ask()), r"^chat\.caller_open")
    while gateway.status()["open_calls"] < limits["open_calls_max"]:
        gateway.begin_chat(canister(9), ask())
    rejected(gateway.begin_chat(canister(10), ask()), r"^chat\.open:")
    assert gateway.status()["open_calls"] == limits["open_calls_max"]


def test_a_drain_ends_calls_with_their_tickets_and_lets_the_upgrade_pass(bench: Bench) -> None:
    gateway = bench.gateway
    calls = [gateway.begin_chat(canister(number), ask(f"prompt {number}")) for number in range(5)]
    step(bench)
    with pytest.raises(Rejected, match="outstanding"):
        gateway.upgrade()
    gateway.set_draining(OWNER, True)
    rejected(gateway.begin_chat(APP, ask()), r"^gateway\.draining")
    later = gateway.submit_chat(APP, ask("while draining"))
    while gateway.status()["draws"]:
        step(bench)
    tickets = [int(rejected(call, r"^chat\.pending.*ticket (\d+)$")[1]) for call in calls]
    assert bench.replica.outstanding == ()
    gateway.upgrade()
    assert not gateway.status()["draining"]
    step(bench)
    step(bench)
    for number, ticket in enumerate(tickets):
        assert isinstance(gateway.take_answer(canister(number), ticket), Position)
    assert isinstance(gateway.take_answer(APP, later), Position)
    with pytest.raises(GatewayRefused, match="not_allowed"):
        gateway.set_draining(canister(3), True)


# ---- the timer


def test_a_block_seals_by_itself(bench: Bench) -> None:
    gateway = bench.gateway
    gateway.set_pace(OWNER, soonest_ms=500, latest_ms=2_000, expiry_blocks=16)
    step(bench)
    tickets = [gateway.submit_chat(person(number), ask()) for number in range(3)]
    step(bench)
    assert gateway.take_answer(person(0), tickets[0]) == Waiting()
    step(bench)
    bench.replica.settle()
    assert gateway.status()["head_height"] == 1
    assert gateway.take_answer(person(2), tickets[2]) == Position(1, 2, 2)
    step(bench, 10)
    assert bench.replica.outstanding == ()  # nothing waits, so nothing runs
    assert bench.replica.timer_ns == 0


def test_a_full_block_does_not_wait_for_the_latest_moment(bench: Bench) -> None:
    gateway = bench.gateway
    gateway.set_pace(OWNER, soonest_ms=500, latest_ms=60_000, expiry_blocks=16)
    step(bench)
    for number in range(256):
        gateway.submit_sealed(person(number), b"x")
    step(bench)
    bench.replica.settle()
    assert gateway.status()["head_height"] == 1


def test_blocks_are_no_closer_than_the_soonest_interval(bench: Bench) -> None:
    gateway = bench.gateway
    gateway.set_pace(OWNER, soonest_ms=5_000, latest_ms=5_000, expiry_blocks=16)
    for _ in range(12):
        gateway.submit_sealed(ALICE, b"x")
        step(bench)
        bench.replica.settle()
    assert gateway.status()["head_height"] == 2
    first, second = _times(gateway)
    assert second - first >= 5 * SECOND


def _times(gateway: Gateway) -> list[int]:
    found = [gateway.get_entries(height) for height in (1, 2)]
    return [entries[0].time_ns for entries in found if entries is not None]


def test_a_failed_draw_of_the_timer_is_tried_again(bench: Bench) -> None:
    gateway, replica = bench.gateway, bench.replica
    step(bench)
    ticket = gateway.submit_chat(ALICE, ask())
    bench.clock.now_ns += 2 * SECOND
    replica.fire_timer()
    replica.deliver(replica.outstanding[0])  # the timer's own message
    replica.deliver(replica.outstanding[0], Rejection(RejectCode.SYS_TRANSIENT, "no randomness"))
    assert gateway.take_answer(ALICE, ticket) == Waiting()
    step(bench, 2)
    replica.settle()
    assert gateway.take_answer(ALICE, ticket) == Position(1, 0, 0)


def test_the_timer_goes_on_after_an_upgrade(bench: Bench) -> None:
    gateway = bench.gateway
    step(bench)
    ticket = gateway.submit_chat(ALICE, ask())
    gateway.upgrade()
    for _ in range(3):
        step(bench)
    bench.replica.settle()
    assert gateway.take_answer(ALICE, ticket) == Position(1, 0, 0)


@pytest.mark.parametrize(
    ("pace", "code"),
    [
        ({"soonest_ms": 2, "latest_ms": 1, "expiry_blocks": 16}, "pace.soonest_ms"),
        ({"soonest_ms": 1, "latest_ms": 60_001, "expiry_blocks": 16}, "pace.latest_ms"),
        ({"soonest_ms": 1, "latest_ms": 1, "expiry_blocks": 15}, "pace.expiry_blocks"),
        ({"soonest_ms": 1, "latest_ms": 1, "expiry_blocks": 65_537}, "pace.expiry_blocks"),
    ],
)
def test_a_pace_out_of_bounds_is_refused(gateway: Gateway, pace: dict[str, int], code: str) -> None:
    with pytest.raises(GatewayRefused, match=re.escape(code)):
        gateway.set_pace(OWNER, **pace)
