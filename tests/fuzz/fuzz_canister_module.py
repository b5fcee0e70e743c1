"""Invariant: whatever module someone installs, making its state reachable ends in a module or in ModuleRefused; and
what was made reachable is taken by the engine or refused by it, never more.
"""

from __future__ import annotations

import gzip

import wasmtime

from devnet.replica.instance import compile_module
from devnet.replica.module import ModuleRefused, exported_functions, make_reachable, unpacked
from tests.canisters import callee_wasm, caller_wasm

SEEDS: list[bytes] = [
    callee_wasm(),
    caller_wasm(),
    gzip.compress(caller_wasm()),
    bytes(
        wasmtime.wat2wasm(
            "(module (memory i64 1 2) (global (mut f64) (f64.const 1)) (table 1 funcref) (start $s) (func $s)"
            ' (func (export "canister_init")))'
        )
    ),
]


def one_input(data: bytes) -> None:
    try:
        make_reachable(unpacked(data))
        exported_functions(unpacked(data))
        compile_module(data)
    except ModuleRefused:
        return
