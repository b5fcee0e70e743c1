"""A hello-world canister, as somebody else might deploy one: `greet`, `who`, `fail`, with its interface beside it."""

from __future__ import annotations

import wasmtime

INTERFACE = "service : { greet : () -> (text) query; who : () -> (principal); fail : () -> () }"
_SOURCE = """
(module
  (import "ic0" "msg_reply_data_append" (func $append (param i32 i32)))
  (import "ic0" "msg_reply" (func $reply))
  (import "ic0" "msg_caller_size" (func $size (result i32)))
  (import "ic0" "msg_caller_copy" (func $copy (param i32 i32 i32)))
  (import "ic0" "trap" (func $trap (param i32 i32)))
  (memory 1)
  (data (i32.const 0) "DIDL\\00\\01\\71\\0cHello, world")
  (data (i32.const 64) "DIDL\\00\\01\\68\\01")
  (data (i32.const 128) "on purpose")
  (func (export "canister_query greet") (call $append (i32.const 0) (i32.const 20)) (call $reply))
  (func (export "canister_update who")
    (i32.store8 (i32.const 72) (call $size))
    (call $copy (i32.const 73) (i32.const 0) (call $size))
    (call $append (i32.const 64) (i32.add (i32.const 9) (call $size)))
    (call $reply))
  (func (export "canister_update fail") (call $trap (i32.const 128) (i32.const 10))))
"""


def hello_wasm() -> bytes:
    name, content = b"icp:public candid:service", INTERFACE.encode()
    section = bytes([len(name)]) + name + content
    return bytes(wasmtime.wat2wasm(_SOURCE)) + bytes([0]) + _unsigned(len(section)) + section


def _unsigned(value: int) -> bytes:
    return bytes([value & 0x7F | 0x80, value >> 7]) if value > 0x7F else bytes([value])
