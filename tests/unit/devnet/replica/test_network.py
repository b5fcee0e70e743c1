"""Several canisters: calls between them, cycles on the way, time limits, queues, timers, variables."""

from __future__ import annotations

import pytest
import wasmtime

from devnet.replica import MANAGEMENT_CANISTER, Call, Execution, Network, RejectCode, Rejected, Stage, Status
from devnet.replica.delivery import QUEUE_MAX
from foundation.candid import PRINCIPAL, Record, encode
from tests.canisters import ATTACHED, CALLEE, CALLER, OWNER, Clock, request, two

CYCLES = 1_000_000


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def network(clock: Clock) -> Network:
    return two(clock, CYCLES)


def done(network: Network, call: Call) -> bytes:
    """The reply, after as many rounds as it takes."""
    for _ in range(10):
        if call.outcome is not None:
            break
        network.round()
    return call.reply()


def asked(network: Network, how: str, argument: bytes) -> Call:
    return network.submit(CALLER, how, argument, OWNER)


def number(raw: bytes) -> int:
    return int.from_bytes(raw, "little")


def balances(network: Network) -> tuple[int, int]:
    return network.canister(CALLER).cycles, network.canister(CALLEE).cycles


# ---- calls


def test_a_call_to_another_canister_comes_back_round_by_round(network: Network) -> None:
    call = asked(network, "ask", request("echo", b"hello"))
    stages = []
    while call.outcome is None:
        network.round()
        stages.append([each.stage for each in network.calls.values()])
    # One round each: the caller runs, the callee answers, the callback responds.
    assert stages == [[Stage.QUEUED], [Stage.ANSWERED], []]
    assert call.reply()[32:] == b"hello"
    assert network.contexts == {}
    assert network.waiting() == []


def test_the_callee_sees_the_canister_that_calls(network: Network) -> None:
    assert done(network, asked(network, "ask", request("who")))[32:] == CALLER


@pytest.mark.parametrize(
    ("method", "callee", "code"),
    [
        ("refuse", CALLEE, RejectCode.CANISTER_REJECT),
        ("take_and_trap", CALLEE, RejectCode.CANISTER_ERROR),
        ("nothing_here", CALLEE, RejectCode.CANISTER_ERROR),
        ("echo", bytes.fromhex("00000000fff000990101"), RejectCode.DESTINATION_INVALID),
    ],
)
def test_a_call_that_fails_is_rejected_with_its_code(
    network: Network, method: str, callee: bytes, code: RejectCode
) -> None:
    reply = done(network, asked(network, "ask", request(method, callee=callee)))
    assert number(reply[16:20]) == code


def test_a_pair_of_canisters_has_room_for_500_open_calls(network: Network) -> None:
    calls = [asked(network, "ask", request("wait")) for _ in range(QUEUE_MAX + 2)]
    network.round()
    assert [call.outcome for call in calls[:QUEUE_MAX]] == [None] * QUEUE_MAX
    for refused in calls[QUEUE_MAX:]:
        with pytest.raises(Rejected, match="full"):
            refused.reply()
    assert len(network.calls) == QUEUE_MAX
    for call in calls[:QUEUE_MAX]:
        done(network, call)
    assert done(network, asked(network, "ask", request("echo", b"again")))[32:] == b"again"


# ---- cycles


def test_cycles_are_accepted_in_part_and_the_rest_comes_back(network: Network) -> None:
    reply = done(network, asked(network, "ask_paid", request("take_600")))
    assert number(reply[:16]) == ATTACHED - 600
    assert number(reply[16:32]) == CYCLES - 600
    assert [number(reply[at : at + 16]) for at in (32, 48, 64)] == [ATTACHED, 600, ATTACHED - 600]
    assert balances(network) == (CYCLES - 600, CYCLES + 600)


def test_a_trap_undoes_what_was_accepted(network: Network) -> None:
    reply = done(network, asked(network, "ask_paid", request("take_and_trap")))
    assert number(reply[:16]) == ATTACHED
    assert balances(network) == (CYCLES, CYCLES)


def test_a_reject_keeps_what_was_accepted(network: Network) -> None:
    reply = done(network, asked(network, "ask_paid", request("take_and_refuse")))
    assert number(reply[:16]) == ATTACHED - 600
    assert balances(network) == (CYCLES - 600, CYCLES + 600)


def test_cycles_can_be_accepted_in_a_callback(network: Network) -> None:
    reply = done(network, asked(network, "ask_paid", request("wait")))
    assert number(reply[32:48]) == 50
    assert balances(network) == (CYCLES - 50, CYCLES + 50)


def test_a_caller_that_traps_has_attached_nothing(network: Network) -> None:
    with pytest.raises(Rejected, match="unreachable"):
        done(network, asked(network, "ask_and_trap", request("take_600")))
    assert balances(network) == (CYCLES, CYCLES)
    assert network.calls == {}


def test_cycles_of_a_call_that_is_never_made_stay(network: Network) -> None:
    done(network, asked(network, "ask_never", request("take_600")))
    assert balances(network) == (CYCLES, CYCLES)


def test_more_cycles_than_there_are_cannot_be_attached(network: Network) -> None:
    with pytest.raises(Rejected, match="balance"):
        done(network, asked(network, "ask_too_much", request("take_600")))
    assert balances(network) == (CYCLES, CYCLES)


def test_a_full_queue_takes_no_cycles(network: Network) -> None:
    for _ in range(QUEUE_MAX):
        asked(network, "ask_paid", request("wait"))
    refused = asked(network, "ask_paid", request("wait"))
    network.round()
    with pytest.raises(Rejected, match="full"):
        refused.reply()
    assert network.canister(CALLER).cycles == CYCLES - QUEUE_MAX * ATTACHED


def test_cycles_are_neither_made_nor_lost(network: Network) -> None:
    for how in ("ask", "ask_paid"):
        for method in ("echo", "take_600", "take_and_trap", "take_and_refuse", "wait", "nothing_here"):
            done(network, asked(network, how, request(method)))
    assert sum(balances(network)) == 2 * CYCLES


# ---- bounded waits


def test_a_bounded_wait_that_is_over_is_answered_without_the_callee(network: Network, clock: Clock) -> None:
    call = asked(network, "ask_10s", request("wait"))
    network.round()
    assert network.wakes_ns() == clock() + 10 * 10**9
    clock.go_on(10)
    reply = done(network, call)
    assert number(reply[16:20]) == RejectCode.SYS_UNKNOWN
    assert number(reply[:16]) == 0  # lost with the call, as on the subnet


def test_what_a_callee_says_too_late_reaches_nobody(network: Network, clock: Clock) -> None:
    call = asked(network, "ask_10s", request("wait"))
    network.round()
    network.round()
    assert [each.stage for each in network.calls.values()] == [Stage.OPEN, Stage.QUEUED]
    clock.go_on(11)
    network.expire()
    reply = done(network, call)
    assert number(reply[16:20]) == RejectCode.SYS_UNKNOWN
    while network.waiting():
        network.round()
    assert network.contexts == {}
    assert network.canister(CALLEE).cycles == CYCLES + 50  # it could still accept


def test_a_bounded_wait_that_is_answered_in_time_is_as_any_other(network: Network, clock: Clock) -> None:
    reply = done(network, asked(network, "ask_10s", request("take_600")))
    assert number(reply[:16]) == ATTACHED - 600
    clock.go_on(100)
    assert network.expire() == 0


@pytest.mark.parametrize(("how", "seconds"), [("ask", 0), ("ask_10s", 10), ("ask_days", 300)])
def test_the_callee_is_told_the_time_limit(network: Network, clock: Clock, how: str, seconds: int) -> None:
    reply = done(network, asked(network, how, request("limit")))
    assert number(reply[32:]) == (clock() + seconds * 10**9 if seconds else 0)


# ---- timers, variables, instructions


def test_a_timer_fires_once_in_the_first_round_after_its_time(network: Network, clock: Clock) -> None:
    done(network, network.submit(CALLEE, "in_a_second", b"", OWNER))
    network.round()
    assert number(network.query(CALLEE, "fired", b"")) == 0
    clock.go_on(1)
    network.round()
    network.round()
    assert number(network.query(CALLEE, "fired", b"")) == 1
    assert network.wakes_ns() is None


def test_a_canister_reads_its_environment(network: Network) -> None:
    network.canister(CALLEE).change(environment={"PUBLIC_CANISTER_ID:llm": "w36hm-eqaaa-aaaal-qr76a-cai", "x": ""})
    reply = network.query(CALLEE, "variable", b"PUBLIC_CANISTER_ID:llm")
    assert number(reply[:4]) == 2
    assert reply[4:] == b"w36hm-eqaaa-aaaal-qr76a-cai"
    with pytest.raises(Rejected, match="no environment variable 'other'"):
        network.query(CALLEE, "variable", b"other")


def test_every_execution_is_told_with_its_instructions(network: Network) -> None:
    seen: list[Execution] = []
    network.observe = seen.append
    reply = done(network, asked(network, "ask", request("spent")))
    assert [(each.canister, each.entry.name, each.method) for each in seen] == [
        (CALLER, "UPDATE", "ask"),
        (CALLEE, "UPDATE", "spent"),
        (CALLER, "REPLY", ""),
    ]
    counted = number(reply[32:])
    assert 5_000 < counted < seen[1].fuel < counted + 100
    assert all(each.trapped is None for each in seen)


# ---- stopping


def test_a_canister_stops_when_nothing_of_it_is_open(network: Network) -> None:
    waiting = network.submit(CALLEE, "wait", b"", OWNER)
    network.round()
    about = encode([Record({"canister_id": PRINCIPAL})], [{"canister_id": CALLEE}])
    stopping = network.submit(MANAGEMENT_CANISTER, "stop_canister", about, OWNER)
    late = network.submit(CALLEE, "echo", b"", OWNER)
    network.run(*network.waiting()[1])
    assert network.canister(CALLEE).status is Status.STOPPING
    done(network, waiting)
    with pytest.raises(Rejected, match="the canister is stop"):
        late.reply()
    done(network, stopping)
    assert network.canister(CALLEE).status is Status.STOPPED
    done(network, network.submit(MANAGEMENT_CANISTER, "start_canister", about, OWNER))
    assert done(network, network.submit(CALLEE, "echo", b"on", OWNER)) == b"on"


_BEATING = """
(module
  (import "ic0" "msg_reply_data_append" (func $append (param i32 i32)))
  (import "ic0" "msg_reply" (func $reply))
  (memory 1)
  (func (export "canister_heartbeat")
    (i32.store8 (i32.const 0) (i32.add (i32.load8_u (i32.const 0)) (i32.const 1)))
    (if (i32.eq (i32.load8_u (i32.const 0)) (i32.const 3)) (then (unreachable))))
  (func (export "canister_query beats") (call $append (i32.const 0) (i32.const 1)) (call $reply)))
"""


def test_a_heartbeat_runs_every_round_and_a_trap_in_it_is_undone(network: Network) -> None:
    assert not network.has_heartbeat()
    made = network.create(controllers={OWNER})
    network.install(made, bytes(wasmtime.wat2wasm(_BEATING)), b"", OWNER)
    assert network.has_heartbeat()
    beats = []
    for _ in range(4):
        network.round()
        beats.append(number(network.query(made.canister_id, "beats", b"")))
    assert beats == [1, 2, 2, 2]
    assert made.prints == ["[trap in canister_heartbeat] wasm trap: wasm `unreachable` instruction executed"] * 2
    assert network.contexts == {}


def test_answered_calls_are_forgotten_and_open_ones_are_not(network: Network) -> None:
    for canister, method, request_id in ((CALLEE, "echo", b"a" * 32), (CALLEE, "wait", b"b" * 32)):
        network.submit(canister, method, b"", OWNER, request_id=request_id, expiry_ns=10)
    network.round()
    network.forget(10)
    assert set(network.requests) == {b"a" * 32, b"b" * 32}  # not older than that
    network.forget(11)
    assert set(network.requests) == {b"b" * 32}
    while network.waiting():
        network.round()
    network.forget(11)
    assert network.requests == network.ingress == {}


def test_a_composite_query_is_refused_by_name(network: Network) -> None:
    made = network.create(controllers={OWNER})
    wasm = wasmtime.wat2wasm('(module (memory 1) (func (export "canister_composite_query q")))')
    network.install(made, bytes(wasm), b"", OWNER)
    with pytest.raises(Rejected, match="method 'q' is a composite query"):
        network.query(made.canister_id, "q", b"")
