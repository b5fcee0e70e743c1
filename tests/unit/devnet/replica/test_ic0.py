"""Every function of `ic0` in the interface specification: it is there, in both address widths, and where it may be.

The list of names is written out here a second time, by hand, so that a line lost from the table is noticed.
"""

from __future__ import annotations

import pytest
import wasmtime

from devnet.replica import Network, Rejected, ic0_table
from devnet.replica.messages import Entry
from devnet.replica.system_api import SystemApi
from tests.canisters import CALLEE, OWNER, Clock, randomness

NAMES = (
    "msg_arg_data_size",
    "msg_arg_data_copy",
    "msg_caller_size",
    "msg_caller_copy",
    "msg_caller_info_data_size",
    "msg_caller_info_data_copy",
    "msg_caller_info_signer_size",
    "msg_caller_info_signer_copy",
    "msg_reject_code",
    "msg_reject_msg_size",
    "msg_reject_msg_copy",
    "msg_deadline",
    "msg_reply_data_append",
    "msg_reply",
    "msg_reject",
    "msg_cycles_available128",
    "msg_cycles_refunded128",
    "msg_cycles_accept128",
    "cycles_burn128",
    "canister_self_size",
    "canister_self_copy",
    "canister_cycle_balance128",
    "canister_liquid_cycle_balance128",
    "canister_status",
    "canister_version",
    "subnet_self_size",
    "subnet_self_copy",
    "msg_method_name_size",
    "msg_method_name_copy",
    "accept_message",
    "call_new",
    "call_on_cleanup",
    "call_data_append",
    "call_with_best_effort_response",
    "call_cycles_add128",
    "call_perform",
    "stable64_size",
    "stable64_grow",
    "stable64_write",
    "stable64_read",
    "root_key_size",
    "root_key_copy",
    "certified_data_set",
    "data_certificate_present",
    "data_certificate_size",
    "data_certificate_copy",
    "time",
    "global_timer_set",
    "performance_counter",
    "is_controller",
    "in_replicated_execution",
    "cost_call",
    "cost_create_canister",
    "cost_http_request",
    "cost_sign_with_ecdsa",
    "cost_sign_with_schnorr",
    "cost_vetkd_derive_key",
    "env_var_count",
    "env_var_name_size",
    "env_var_name_copy",
    "env_var_name_exists",
    "env_var_value_size",
    "env_var_value_copy",
    "debug_print",
    "trap",
)
OLD_NAMES = (
    "msg_cycles_available",
    "msg_cycles_refunded",
    "msg_cycles_accept",
    "canister_cycle_balance",
    "call_cycles_add",
    "stable_size",
    "stable_grow",
    "stable_write",
    "stable_read",
)
ENTRIES = {
    "canister_init": Entry.INIT,
    "canister_update u": Entry.UPDATE,
    "canister_query q": Entry.QUERY,
    "canister_inspect_message": Entry.INSPECT,
    "canister_global_timer": Entry.TIMER,
}


def importing(function: ic0_table.Function, pointer: str) -> str:
    parameters, results = function.typed(pointer)
    of = f"(param {' '.join(parameters)})" + (f" (result {results[0]})" if results else "")
    return f'(import "ic0" "{function.name}" (func ${function.name} {of}))'


def installed(source: str) -> Network:
    network = Network(clock=Clock(), randomness=randomness, subnet_id=b"\1" * 29, root_key=b"\2" * 133)
    network.install(network.create(CALLEE, controllers={OWNER}), bytes(wasmtime.wat2wasm(source)), b"", OWNER)
    return network


def test_the_table_has_every_name_of_the_specification() -> None:
    assert set(ic0_table.FUNCTIONS) == set(NAMES)
    assert set(ic0_table.OLD) == set(OLD_NAMES)
    assert all(callable(getattr(SystemApi, name)) for name in (*NAMES, *OLD_NAMES))


@pytest.mark.parametrize("pointer", ["i32", "i64"])
def test_a_module_may_import_every_function(pointer: str) -> None:
    functions = list(ic0_table.FUNCTIONS.values()) + (list(ic0_table.OLD.values()) if pointer == "i32" else [])
    imports = "\n".join(importing(function, pointer) for function in functions)
    memory = "(memory i64 1)" if pointer == "i64" else "(memory 1)"
    network = installed(f'(module {imports} {memory} (func (export "canister_update u") (call $msg_reply)))')
    call = network.submit(CALLEE, "u", b"", OWNER)
    network.round()
    assert call.reply() == b""


@pytest.mark.parametrize(
    ("imported", "memory", "said"),
    [
        ('(import "ic0" "mint_cycles128" (func (param i64 i64 i32)))', "(memory 1)", r"ic0\.mint_cycles128"),
        ('(import "ic0" "stable_size" (func (result i32)))', "(memory i64 1)", r"ic0\.stable_size"),
        ('(import "ic0" "msg_caller_size" (func (result i64)))', "(memory 1)", r"ic0\.msg_caller_size as specified"),
        ('(import "env" "clock" (func (result i64)))', "(memory 1)", r"env\.clock"),
    ],
)
def test_what_is_not_there_is_refused_by_its_name(imported: str, memory: str, said: str) -> None:
    with pytest.raises(Rejected, match=said):
        installed(f'(module {imported} {memory} (func (export "canister_init")))')


@pytest.mark.parametrize("name", sorted({*NAMES, *OLD_NAMES} - {"trap"}))
def test_a_function_is_available_where_the_specification_says(name: str) -> None:
    """Called with zeros from each entry point; elsewhere than allowed it traps and says so."""
    function = ic0_table.FUNCTIONS.get(name) or ic0_table.OLD[name]
    parameters, results = function.typed("i32")
    call = " ".join(f"({each}.const 0)" for each in parameters)
    body = f"(call ${name} {call})" if not results else f"(drop (call ${name} {call}))"
    for export, entry in ENTRIES.items():
        trapped = _trap_of(f'(module {importing(function, "i32")} (memory 1) (func (export "{export}") {body}))', entry)
        refused = trapped == f"ic0.{name} is not available in {entry.name.lower()}"
        assert refused == (entry not in function.entries), (entry, trapped)


def _trap_of(source: str, entry: Entry) -> str:
    """What stopped the message of that entry point; empty if nothing did."""
    seen: list[str | None] = []
    network = Network(clock=Clock(), randomness=randomness)
    network.observe = lambda execution: seen.append(execution.trapped) if execution.entry is entry else None
    canister = network.create(CALLEE, controllers={OWNER})
    try:
        network.install(canister, bytes(wasmtime.wat2wasm(source)), b"", OWNER)
        match entry:
            case Entry.UPDATE:
                network.submit(CALLEE, "u", b"", OWNER)
                network.round()
            case Entry.QUERY:
                network.query(CALLEE, "q", b"", OWNER)
            case Entry.INSPECT:
                network.inspect(CALLEE, "u", b"", OWNER)
            case _:
                canister.timer_ns = 1
                network.round()
    except Rejected:
        pass
    assert len(seen) == 1
    return seen[0] or ""
