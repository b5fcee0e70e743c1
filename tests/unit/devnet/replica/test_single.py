"""The replica against a canister small enough to read: what commits, what is undone, who may call what.

The canister keeps one counter in each place a message can write to: a global, linear memory, stable memory
and certified data. `peek` replies with the first three, eight little-endian bytes each.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from itertools import count
from typing import NamedTuple

import pytest
import wasmtime

from devnet.replica import NotAnswered, RejectCode, Rejected, Rejection, Replica
from devnet.replica.instance import KEEPS_MAIN_MEMORY
from foundation.candid import BLOB, decode

CANISTER = bytes.fromhex("00000000fff000050101")
OWNER = b"\x01owner"

SOURCE = """
(module
  (import "ic0" "msg_reply_data_append" (func $append (param i64 i64)))
  (import "ic0" "msg_reply" (func $reply))
  (import "ic0" "msg_arg_data_size" (func $arg_size (result i64)))
  (import "ic0" "msg_arg_data_copy" (func $arg_copy (param i64 i64 i64)))
  (import "ic0" "msg_caller_size" (func $caller_size (result i64)))
  (import "ic0" "msg_caller_copy" (func $caller_copy (param i64 i64 i64)))
  (import "ic0" "msg_reject_code" (func $reject_code (result i32)))
  (import "ic0" "certified_data_set" (func $certify (param i64 i64)))
  (import "ic0" "data_certificate_size" (func $certificate_size (result i64)))
  (import "ic0" "data_certificate_copy" (func $certificate_copy (param i64 i64 i64)))
  (import "ic0" "stable64_size" (func $stable_size (result i64)))
  (import "ic0" "stable64_grow" (func $stable_grow (param i64) (result i64)))
  (import "ic0" "stable64_write" (func $stable_write (param i64 i64 i64)))
  (import "ic0" "stable64_read" (func $stable_read (param i64 i64 i64)))
  (import "ic0" "canister_self_size" (func $self_size (result i64)))
  (import "ic0" "canister_self_copy" (func $self_copy (param i64 i64 i64)))
  (import "ic0" "global_timer_set" (func $timer (param i64) (result i64)))
  (import "ic0" "trap" (func $trap (param i64 i64)))
  (import "ic0" "call_new" (func $call_new (param i64 i64 i64 i64 i64 i64 i64 i64)))
  (import "ic0" "call_on_cleanup" (func $on_cleanup (param i64 i64)))
  (import "ic0" "call_perform" (func $perform (result i32)))
  (memory (export "memory") i64 1)
  (table (export "table") 5 funcref)
  (elem (i32.const 0) $pass_on $say_rejected $trap_in_callback $add_hundred $certify_in_cleanup)
  (global $n (mut i64) (i64.const 0))
  (data (i64.const 256) "raw_rand")
  (data (i64.const 272) "bump")
  (data (i64.const 288) "gone wrong")
  (start $started)
  ;; memory: 0 the counter, 8 scratch for the global, 16 scratch for stable, 512 scratch for bytes
  (func $started (i64.store (i64.const 1024) (i64.add (i64.load (i64.const 1024)) (i64.const 1))))
  (func $store_stable
    (if (i64.eqz (call $stable_size)) (then (drop (call $stable_grow (i64.const 1)))))
    (call $stable_write (i64.const 0) (i64.const 0) (i64.const 8)))
  (func $count
    (global.set $n (i64.add (global.get $n) (i64.const 1)))
    (i64.store (i64.const 0) (i64.add (i64.load (i64.const 0)) (i64.const 1)))
    (call $store_stable))
  (func $show
    (i64.store (i64.const 8) (global.get $n))
    (i64.store (i64.const 16) (i64.const 0))
    (if (i64.ne (call $stable_size) (i64.const 0))
      (then (call $stable_read (i64.const 16) (i64.const 0) (i64.const 8))))
    (call $append (i64.const 8) (i64.const 8))
    (call $append (i64.const 0) (i64.const 8))
    (call $append (i64.const 16) (i64.const 8))
    (call $reply))
  (func $draw (param $on_reply i64) (param $cleanup i64)
    (call $call_new (i64.const 0) (i64.const 0) (i64.const 256) (i64.const 8)
      (local.get $on_reply) (i64.const 7) (i64.const 1) (i64.const 8))
    (call $on_cleanup (local.get $cleanup) (i64.const 9))
    (drop (call $perform)))
  (func $pass_on (param i64)
    (call $count)
    (call $arg_copy (i64.const 512) (i64.const 0) (call $arg_size))
    (call $append (i64.const 512) (call $arg_size))
    (call $reply))
  (func $say_rejected (param i64)
    (i64.store (i64.const 512) (i64.extend_i32_u (call $reject_code)))
    (call $append (i64.const 512) (i64.const 1))
    (call $reply))
  (func $trap_in_callback (param i64) (call $count) (call $reply) (unreachable))
  (func $add_hundred (param i64) (global.set $n (i64.add (global.get $n) (i64.const 100))))
  (func $certify_in_cleanup (param i64) (call $certify (i64.const 0) (i64.const 8)))
  (func (export "canister_update bump")
    (call $count)
    (call $certify (i64.const 0) (i64.const 8))
    (call $show))
  (func (export "canister_update bump_and_trap")
    (call $count)
    (drop (memory.grow (i64.const 5)))
    (call $certify (i64.const 256) (i64.const 8))
    (drop (call $timer (i64.const 77)))
    (call $draw (i64.const 0) (i64.const 3))
    (call $show)
    (call $trap (i64.const 288) (i64.const 10)))
  (func (export "canister_update grow") (drop (memory.grow (i64.const 5))) (call $count) (call $show))
  (func (export "canister_update draw") (call $draw (i64.const 0) (i64.const 3)))
  (func (export "canister_update draw_and_trap") (call $draw (i64.const 2) (i64.const 3)))
  (func (export "canister_update draw_and_trap_twice") (call $draw (i64.const 2) (i64.const 4)))
  (func (export "canister_update reply_and_draw")
    (call $reply)
    (call $draw (i64.const 0) (i64.const 3)))
  (func (export "canister_update bump_self")
    (call $self_copy (i64.const 512) (i64.const 0) (call $self_size))
    (call $call_new (i64.const 512) (call $self_size) (i64.const 272) (i64.const 4)
      (i64.const 0) (i64.const 7) (i64.const 1) (i64.const 8))
    (drop (call $perform)))
  (func (export "canister_update silent"))
  (func (export "canister_update reply_twice") (call $reply) (call $reply))
  (func (export "canister_update spin") (loop $again (br $again)))
  (func (export "canister_update whoami")
    (call $caller_copy (i64.const 512) (i64.const 0) (call $caller_size))
    (call $append (i64.const 512) (call $caller_size))
    (call $reply))
  (func (export "canister_update certificate_in_update") (drop (call $certificate_size)))
  (func (export "canister_update set_timer") (drop (call $timer (i64.const 1000))) (call $reply))
  (func (export "canister_global_timer") (call $count))
  (func (export "canister_query peek") (call $show))
  (func (export "canister_query bump_in_query") (call $count) (drop (memory.grow (i64.const 1))) (call $show))
  (func (export "canister_query certify_in_query") (call $certify (i64.const 0) (i64.const 8)) (call $show))
  (func (export "canister_query starts") (call $append (i64.const 1024) (i64.const 8)) (call $reply))
  (func (export "canister_query certificate")
    (call $certificate_copy (i64.const 512) (i64.const 0) (call $certificate_size))
    (call $append (i64.const 512) (call $certificate_size))
    (call $reply))
  (func (export "canister_pre_upgrade") PRE)
  (func (export "canister_post_upgrade") POST))
"""


def canister(pre: str = "", post: str = "", *, keeping: bool = False) -> bytes:
    wasm = bytes(wasmtime.wat2wasm(SOURCE.replace("PRE", pre).replace("POST", post)))
    if keeping:
        name = KEEPS_MAIN_MEMORY.encode()
        wasm += bytes([0, len(name) + 1, len(name)]) + name
    return wasm


class Seen(NamedTuple):
    in_global: int
    in_memory: int
    in_stable: int


def seen(reply: bytes) -> Seen:
    return Seen(*(int.from_bytes(reply[at : at + 8], "little") for at in (0, 8, 16)))


def randomness() -> Callable[[], bytes]:
    numbers = count()
    return lambda: hashlib.sha256(bytes([next(numbers)])).digest()


@pytest.fixture
def replica() -> Replica:
    ticks = count(1)
    made = Replica(
        CANISTER,
        clock=lambda: next(ticks),
        randomness=randomness(),
        certify=lambda canister_id, data: b"certificate of " + canister_id + data,
        controllers=frozenset({OWNER}),
        fuel_max=10_000_000,
    )
    made.install(canister())
    return made


def peek(replica: Replica) -> Seen:
    return seen(replica.query("peek", b""))


def test_an_update_commits_everywhere(replica: Replica) -> None:
    assert seen(replica.ingress("bump", b"").reply()) == (1, 1, 1)
    assert seen(replica.ingress("bump", b"").reply()) == (2, 2, 2)
    assert peek(replica) == (2, 2, 2)
    assert replica.certified_data == (2).to_bytes(8, "little")


def test_a_trap_undoes_everything(replica: Replica) -> None:
    replica.ingress("bump", b"")
    pages = replica.installed().memory_bytes // 65_536

    with pytest.raises(Rejected, match="gone wrong") as refused:
        replica.ingress("bump_and_trap", b"").reply()

    assert refused.value.code == "canister_error"
    assert peek(replica) == (1, 1, 1)
    assert replica.certified_data == (1).to_bytes(8, "little")
    assert replica.outstanding == ()
    assert replica.timer_ns == 0
    assert replica.installed().memory_bytes // 65_536 == pages
    assert seen(replica.ingress("bump", b"").reply()) == (2, 2, 2)


def test_a_trap_after_growth_keeps_earlier_growth(replica: Replica) -> None:
    assert seen(replica.ingress("grow", b"").reply()) == (1, 1, 1)
    with pytest.raises(Rejected):
        replica.ingress("bump_and_trap", b"").reply()
    assert replica.installed().memory_bytes // 65_536 == 6
    assert peek(replica) == (1, 1, 1)


def test_a_query_leaves_no_trace(replica: Replica) -> None:
    assert seen(replica.query("bump_in_query", b"")) == (1, 1, 1)
    assert peek(replica) == (0, 0, 0)
    assert seen(replica.ingress("bump_in_query", b"").reply()) == (1, 1, 1)  # a replicated query
    assert peek(replica) == (0, 0, 0)


def test_system_functions_keep_to_their_entry_points(replica: Replica) -> None:
    with pytest.raises(Rejected, match="not available in query"):
        replica.query("certify_in_query", b"")
    with pytest.raises(Rejected, match="not available in update"):
        replica.ingress("certificate_in_update", b"").reply()
    with pytest.raises(Rejected, match="not available in replicated_query"):
        replica.ingress("certificate", b"").reply()


def test_a_query_sees_the_certificate_of_committed_data(replica: Replica) -> None:
    replica.ingress("bump", b"")
    expected = b"certificate of " + CANISTER + (1).to_bytes(8, "little")
    assert replica.query("certificate", b"") == expected


def test_the_caller_is_passed_on(replica: Replica) -> None:
    assert replica.ingress("whoami", b"", OWNER).reply() == OWNER


@pytest.mark.parametrize(
    ("method", "said"),
    [("silent", "did not respond"), ("reply_twice", "has had its response"), ("nothing_here", "no method")],
)
def test_a_call_without_one_response_is_rejected(replica: Replica, method: str, said: str) -> None:
    with pytest.raises(Rejected, match=said):
        replica.ingress(method, b"").reply()


def test_a_runaway_message_is_stopped_and_undone(replica: Replica) -> None:
    with pytest.raises(Rejected, match="fuel"):
        replica.ingress("spin", b"").reply()
    assert seen(replica.ingress("bump", b"").reply()) == (1, 1, 1)


def test_calls_wait_and_are_answered_in_any_order(replica: Replica) -> None:
    calls = [replica.ingress("draw", b"") for _ in range(4)]
    waiting = replica.outstanding
    assert [call.method for call in waiting] == ["raw_rand"] * 4
    with pytest.raises(NotAnswered):
        calls[0].reply()

    draws = randomness()
    for at in (2, 0, 3, 1):
        replica.deliver(waiting[at])
        assert decode([BLOB], calls[at].reply()) == [draws()]  # drawn on delivery, not when asked for

    assert peek(replica).in_global == 4
    with pytest.raises(NotAnswered, match="outstanding"):
        replica.deliver(waiting[0])


def test_a_failed_call_runs_the_reject_callback(replica: Replica) -> None:
    call = replica.ingress("draw", b"")
    replica.deliver(replica.outstanding[0], Rejection(RejectCode.SYS_TRANSIENT, "no randomness now"))
    assert call.reply() == bytes([RejectCode.SYS_TRANSIENT])


def test_a_trapped_callback_is_undone_and_cleaned_up(replica: Replica) -> None:
    replica.ingress("bump", b"")
    call = replica.ingress("draw_and_trap", b"")
    replica.settle()
    with pytest.raises(Rejected, match="unreachable"):
        call.reply()
    assert peek(replica) == (101, 1, 1)  # the cleanup's hundred, nothing of the callback


def test_a_trapped_cleanup_is_undone_too(replica: Replica) -> None:
    call = replica.ingress("draw_and_trap_twice", b"")
    replica.settle()
    with pytest.raises(Rejected, match="unreachable"):
        call.reply()
    assert peek(replica) == (0, 0, 0)
    assert replica.certified_data == b""


def test_a_callback_cannot_respond_a_second_time(replica: Replica) -> None:
    call = replica.ingress("reply_and_draw", b"")
    assert call.reply() == b""
    replica.settle()
    assert call.reply() == b""
    assert peek(replica) == (100, 0, 0)  # the callback trapped and was cleaned up after


def test_a_canister_can_call_itself(replica: Replica) -> None:
    call = replica.ingress("bump_self", b"")
    assert peek(replica) == (0, 0, 0)
    replica.settle()
    assert seen(call.reply()) == (1, 1, 1)
    assert peek(replica) == (2, 2, 2)  # once as callee, once in the callback


def test_the_timer_fires_when_its_time_has_come() -> None:
    now = [0]
    replica = Replica(CANISTER, clock=lambda: now[0], randomness=randomness())
    replica.install(canister())
    replica.ingress("set_timer", b"").reply()
    replica.upgrade(canister())
    assert replica.timer_ns == 0  # new code sets its own
    replica.ingress("set_timer", b"").reply()
    assert not replica.fire_timer()
    now[0] = 1_000
    assert replica.fire_timer()
    assert not replica.fire_timer()
    assert peek(replica) == (1, 1, 1)


def test_an_upgrade_keeps_stable_memory_and_runs_both_hooks(replica: Replica) -> None:
    replica.ingress("bump", b"")
    replica.upgrade(canister())
    assert peek(replica) == (0, 0, 1)

    replica.install(canister("(call $count)", "(call $count)", keeping=True))
    assert peek(replica) == (0, 0, 0)  # install starts from nothing
    assert replica.certified_data == b""
    replica.ingress("bump", b"")
    replica.upgrade(canister("(call $count)", "(call $count)", keeping=True))
    # Memory is kept through both hooks; globals start again in the new instance.
    assert peek(replica) == (1, 3, 3)
    assert int.from_bytes(replica.query("starts", b""), "little") == 2  # the start function saw kept memory


@pytest.mark.parametrize(
    ("running", "coming"),
    [("(call $count) (unreachable)", ""), ("(call $count)", "(call $count) (unreachable)")],
    ids=["in the old code", "in the new code"],
)
def test_a_trap_in_an_upgrade_changes_nothing(replica: Replica, running: str, coming: str) -> None:
    replica.install(canister(running, keeping=True))
    replica.ingress("bump", b"")
    with pytest.raises(Rejected, match="unreachable"):
        replica.upgrade(canister("", coming, keeping=True))
    assert peek(replica) == (1, 1, 1)
    assert replica.certified_data == (1).to_bytes(8, "little")
    assert seen(replica.ingress("bump", b"").reply()) == (2, 2, 2)


def test_a_failed_install_leaves_the_old_canister(replica: Replica) -> None:
    replica.ingress("bump", b"")
    trapping = wasmtime.wat2wasm(
        '(module (memory (export "m") i64 1) (table (export "t") 1 funcref)'
        ' (func (export "canister_init") (unreachable)))'
    )
    with pytest.raises(Rejected, match="unreachable"):
        replica.install(bytes(trapping))
    assert peek(replica) == (1, 1, 1)
    assert replica.certified_data == (1).to_bytes(8, "little")


def test_a_fresh_install_answers_what_was_open(replica: Replica) -> None:
    call = replica.ingress("draw", b"")
    replica.install(canister())
    assert replica.outstanding == ()
    with pytest.raises(Rejected, match="reinstalled"):
        call.reply()


def test_an_upgrade_that_would_drop_main_memory_is_refused(replica: Replica) -> None:
    replica.install(canister(keeping=True))
    with pytest.raises(Rejected, match="keeps main memory"):
        replica.upgrade(canister())


def test_two_runs_of_one_script_agree() -> None:
    def run() -> tuple[bytes, ...]:
        ticks = count(1)
        replica = Replica(CANISTER, clock=lambda: next(ticks), randomness=randomness())
        replica.install(canister())
        calls = [replica.ingress(method, b"") for method in ("draw", "bump", "draw", "draw_and_trap", "bump")]
        for call in reversed(replica.outstanding):
            replica.deliver(call)
        outcomes = [call.outcome for call in calls]
        return (repr(outcomes).encode(), replica.installed().memory_now(), replica.certified_data)

    assert run() == run()
