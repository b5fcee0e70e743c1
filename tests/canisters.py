"""Small canisters in WebAssembly text, for tests of the replica: two that speak with each other, in 32-bit addresses.

`caller` calls method `M` of a canister with an argument it was given: the argument of `ask*` is the callee's id (ten
bytes), then a method name, padded to 16 bytes, then what is passed on. `callee` answers, waits, or takes cycles.
"""

from __future__ import annotations

from itertools import count

import wasmtime

from devnet.replica import Network

CALLER = bytes.fromhex("00000000fff000210101")
CALLEE = bytes.fromhex("00000000fff000220101")
OWNER = b"\x01owner"
ATTACHED = 1_000
START_NS = 1_700_000_000_000_000_000

_CALLER = """
(module
  (import "ic0" "msg_arg_data_size" (func $size (result i32)))
  (import "ic0" "msg_arg_data_copy" (func $copy (param i32 i32 i32)))
  (import "ic0" "msg_reply_data_append" (func $append (param i32 i32)))
  (import "ic0" "msg_reply" (func $reply))
  (import "ic0" "msg_reject" (func $reject (param i32 i32)))
  (import "ic0" "msg_reject_code" (func $code (result i32)))
  (import "ic0" "msg_cycles_refunded128" (func $refunded (param i32)))
  (import "ic0" "call_new" (func $new (param i32 i32 i32 i32 i32 i32 i32 i32)))
  (import "ic0" "call_data_append" (func $data (param i32 i32)))
  (import "ic0" "call_cycles_add128" (func $attach (param i64 i64)))
  (import "ic0" "call_with_best_effort_response" (func $bounded (param i32)))
  (import "ic0" "call_perform" (func $perform (result i32)))
  (import "ic0" "canister_cycle_balance128" (func $balance (param i32)))
  (memory 1)
  (table 2 funcref)
  (elem (i32.const 0) $answered $refused)
  (func $begin (local $name i32)
    (call $copy (i32.const 0) (i32.const 0) (call $size))
    (loop $next
      (if (i32.load8_u (i32.add (i32.const 10) (local.get $name)))
        (then (local.set $name (i32.add (local.get $name) (i32.const 1))) (br $next))))
    (call $new (i32.const 0) (i32.const 10) (i32.const 10) (local.get $name)
      (i32.const 0) (i32.const 0) (i32.const 1) (i32.const 0))
    (call $data (i32.const 26) (i32.sub (call $size) (i32.const 26))))
  (func $end (if (call $perform) (then (call $reject (i32.const 900) (i32.const 4)))))
  (data (i32.const 900) "full")
  (func $answered (param i32)           ;; 16 bytes of what came back, 16 of the balance, then the reply
    (call $refunded (i32.const 1024)) (call $append (i32.const 1024) (i32.const 16))
    (call $balance (i32.const 1024)) (call $append (i32.const 1024) (i32.const 16))
    (call $copy (i32.const 2048) (i32.const 0) (call $size)) (call $append (i32.const 2048) (call $size))
    (call $reply))
  (func $refused (param i32)
    (call $refunded (i32.const 1024)) (call $append (i32.const 1024) (i32.const 16))
    (i32.store (i32.const 1024) (call $code)) (call $append (i32.const 1024) (i32.const 4))
    (call $reply))
  (func (export "canister_update ask") (call $begin) (call $end))
  (func (export "canister_update ask_paid") (call $begin) (call $attach (i64.const 0) (i64.const 1000)) (call $end))
  (func (export "canister_update ask_too_much") (call $begin) (call $attach (i64.const 1) (i64.const 0)) (call $end))
  (func (export "canister_update ask_and_trap")
    (call $begin) (call $attach (i64.const 0) (i64.const 1000)) (call $end) (unreachable))
  (func (export "canister_update ask_never")
    (call $begin) (call $attach (i64.const 0) (i64.const 1000)) (call $reply))
  (func (export "canister_update ask_10s")
    (call $begin) (call $attach (i64.const 0) (i64.const 1000)) (call $bounded (i32.const 10)) (call $end))
  (func (export "canister_update ask_days") (call $begin) (call $bounded (i32.const 600000)) (call $end)))
"""
_CALLEE = """
(module
  (import "ic0" "msg_arg_data_size" (func $size (result i32)))
  (import "ic0" "msg_arg_data_copy" (func $copy (param i32 i32 i32)))
  (import "ic0" "msg_caller_size" (func $caller_size (result i32)))
  (import "ic0" "msg_caller_copy" (func $caller_copy (param i32 i32 i32)))
  (import "ic0" "msg_reply_data_append" (func $append (param i32 i32)))
  (import "ic0" "msg_reply" (func $reply))
  (import "ic0" "msg_reject" (func $reject (param i32 i32)))
  (import "ic0" "msg_deadline" (func $deadline (result i64)))
  (import "ic0" "msg_cycles_available128" (func $available (param i32)))
  (import "ic0" "msg_cycles_accept128" (func $accept (param i64 i64 i32)))
  (import "ic0" "canister_cycle_balance128" (func $balance (param i32)))
  (import "ic0" "call_new" (func $new (param i32 i32 i32 i32 i32 i32 i32 i32)))
  (import "ic0" "call_perform" (func $perform (result i32)))
  (import "ic0" "global_timer_set" (func $timer (param i64) (result i64)))
  (import "ic0" "performance_counter" (func $counter (param i32) (result i64)))
  (import "ic0" "env_var_count" (func $variables (result i32)))
  (import "ic0" "env_var_value_size" (func $value_size (param i32 i32) (result i32)))
  (import "ic0" "env_var_value_copy" (func $value_copy (param i32 i32 i32 i32 i32)))
  (memory 1)
  (table 1 funcref)
  (elem (i32.const 0) $drawn)
  (data (i32.const 800) "raw_rand")
  (data (i32.const 820) "no")
  (func $say (param i32 i32) (call $append (local.get 0) (local.get 1)) (call $reply))
  (func (export "canister_update echo")
    (call $copy (i32.const 0) (i32.const 0) (call $size)) (call $say (i32.const 0) (call $size)))
  (func (export "canister_update who")
    (call $caller_copy (i32.const 0) (i32.const 0) (call $caller_size)) (call $say (i32.const 0) (call $caller_size)))
  (func (export "canister_update refuse") (call $reject (i32.const 820) (i32.const 2)))
  (func (export "canister_update take_600")             ;; what there was, what was taken, what is left to take
    (call $available (i32.const 0)) (call $append (i32.const 0) (i32.const 16))
    (call $accept (i64.const 0) (i64.const 600) (i32.const 0)) (call $append (i32.const 0) (i32.const 16))
    (call $available (i32.const 0)) (call $append (i32.const 0) (i32.const 16))
    (call $reply))
  (func (export "canister_update take_and_trap")
    (call $accept (i64.const 0) (i64.const 600) (i32.const 0)) (unreachable))
  (func (export "canister_update take_and_refuse")
    (call $accept (i64.const 0) (i64.const 600) (i32.const 0)) (call $reject (i32.const 820) (i32.const 2)))
  (func (export "canister_update limit")
    (i64.store (i32.const 0) (call $deadline)) (call $say (i32.const 0) (i32.const 8)))
  (func (export "canister_update wait") (call $draw))
  (func $draw
    (call $new (i32.const 0) (i32.const 0) (i32.const 800) (i32.const 8)
      (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0))
    (drop (call $perform)))
  (func $drawn (param i32)                              ;; takes in a callback what is still there
    (call $accept (i64.const 0) (i64.const 50) (i32.const 0)) (call $say (i32.const 0) (i32.const 16)))
  (func (export "canister_update in_a_second")
    (drop (call $timer (i64.const 1700000001000000000))) (call $reply))
  (func (export "canister_global_timer") (i32.store (i32.const 400) (i32.add (i32.load (i32.const 400)) (i32.const 1))))
  (func (export "canister_query fired") (call $say (i32.const 400) (i32.const 4)))
  (func (export "canister_update spent") (loop $on
      (i32.store (i32.const 404) (i32.add (i32.load (i32.const 404)) (i32.const 1)))
      (br_if $on (i32.lt_u (i32.load (i32.const 404)) (i32.const 1000))))
    (i64.store (i32.const 0) (call $counter (i32.const 0))) (call $say (i32.const 0) (i32.const 8)))
  (func (export "canister_query variable")
    (i32.store (i32.const 0) (call $variables)) (call $append (i32.const 0) (i32.const 4))
    (call $copy (i32.const 0) (i32.const 0) (call $size))
    (call $value_copy (i32.const 0) (call $size) (i32.const 512) (i32.const 0)
      (call $value_size (i32.const 0) (call $size)))
    (call $say (i32.const 512) (call $value_size (i32.const 0) (call $size)))))
"""


def caller_wasm() -> bytes:
    return bytes(wasmtime.wat2wasm(_CALLER))


def callee_wasm() -> bytes:
    return bytes(wasmtime.wat2wasm(_CALLEE))


class Clock:
    """Time that stands still until it is told to go on."""

    def __init__(self) -> None:
        self.now_ns = START_NS

    def __call__(self) -> int:
        return self.now_ns

    def go_on(self, seconds: int) -> None:
        self.now_ns += seconds * 10**9


def randomness() -> bytes:
    return next(_numbers).to_bytes(32, "big")


_numbers = count(1)


def two(clock: Clock, cycles: int = 1_000_000) -> Network:
    """The two canisters, installed."""
    network = Network(clock=clock, randomness=randomness)
    for canister_id, wasm in ((CALLER, caller_wasm()), (CALLEE, callee_wasm())):
        made = network.create(canister_id, controllers={OWNER}, cycles=cycles)
        network.install(made, wasm, b"", OWNER)
    return network


def request(method: str, argument: bytes = b"", callee: bytes = CALLEE) -> bytes:
    """The argument of the caller's `ask*`."""
    return callee + method.encode().ljust(16, b"\0") + argument
