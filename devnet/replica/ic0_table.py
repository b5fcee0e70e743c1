"""Every function of `ic0` in the interface specification: its type, and the entry points it may be called in.

`I` is the module's pointer type. The last column has the specification's letters; `*` is everywhere but in the
module's start function, and `s` is there. `OLD` functions are for modules with 32-bit pointers alone. Composite
queries and the transform functions of HTTP outcalls do not run here, so their letters are left out.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import wasmtime

from devnet.replica.messages import Entry

LETTERS: Final = {
    Entry.START: "s",
    Entry.INIT: "I",
    Entry.PRE_UPGRADE: "G",
    Entry.UPDATE: "U",
    Entry.REPLICATED_QUERY: "RQ",
    Entry.QUERY: "NRQ",
    Entry.REPLY: "Ry",
    Entry.REJECT: "Rt",
    Entry.CLEANUP: "C",
    Entry.INSPECT: "F",
    Entry.TIMER: "T",
    Entry.HEARTBEAT: "T",
}
_TABLE: Final = """
msg_arg_data_size               |                           | I   | I U RQ NRQ Ry F
msg_arg_data_copy               | I I I                     |     | I U RQ NRQ Ry F
msg_caller_size                 |                           | I   | *
msg_caller_copy                 | I I I                     |     | *
msg_caller_info_data_size       |                           | I   | U RQ NRQ Ry Rt C F
msg_caller_info_data_copy       | I I I                     |     | U RQ NRQ Ry Rt C F
msg_caller_info_signer_size     |                           | I   | U RQ NRQ Ry Rt C F
msg_caller_info_signer_copy     | I I I                     |     | U RQ NRQ Ry Rt C F
msg_reject_code                 |                           | i32 | Ry Rt C
msg_reject_msg_size             |                           | I   | Rt
msg_reject_msg_copy             | I I I                     |     | Rt
msg_deadline                    |                           | i64 | U RQ NRQ Ry Rt C
msg_reply_data_append           | I I                       |     | U RQ NRQ Ry Rt
msg_reply                       |                           |     | U RQ NRQ Ry Rt
msg_reject                      | I I                       |     | U RQ NRQ Ry Rt
msg_cycles_available128         | I                         |     | U RQ Rt Ry
msg_cycles_refunded128          | I                         |     | Rt Ry
msg_cycles_accept128            | i64 i64 I                 |     | U RQ Rt Ry
cycles_burn128                  | i64 i64 I                 |     | I G U RQ Ry Rt C T
canister_self_size              |                           | I   | *
canister_self_copy              | I I I                     |     | *
canister_cycle_balance128       | I                         |     | *
canister_liquid_cycle_balance128 | I                        |     | *
canister_status                 |                           | i32 | *
canister_version                |                           | i64 | *
subnet_self_size                |                           | I   | *
subnet_self_copy                | I I I                     |     | *
msg_method_name_size            |                           | I   | F
msg_method_name_copy            | I I I                     |     | F
accept_message                  |                           |     | F
call_new                        | I I I I I I I I           |     | U Ry Rt T
call_on_cleanup                 | I I                       |     | U Ry Rt T
call_data_append                | I I                       |     | U Ry Rt T
call_with_best_effort_response  | i32                       |     | U Ry Rt T
call_cycles_add128              | i64 i64                   |     | U Ry Rt T
call_perform                    |                           | i32 | U Ry Rt T
stable64_size                   |                           | i64 | * s
stable64_grow                   | i64                       | i64 | * s
stable64_write                  | i64 i64 i64               |     | * s
stable64_read                   | i64 i64 i64               |     | * s
root_key_size                   |                           | I   | I G U RQ Ry Rt C T
root_key_copy                   | I I I                     |     | I G U RQ Ry Rt C T
certified_data_set              | I I                       |     | I G U Ry Rt T
data_certificate_present        |                           | i32 | *
data_certificate_size           |                           | I   | NRQ
data_certificate_copy           | I I I                     |     | NRQ
time                            |                           | i64 | *
global_timer_set                | i64                       | i64 | I G U Ry Rt C T
performance_counter             | i32                       | i64 | * s
is_controller                   | I I                       | i32 | * s
in_replicated_execution         |                           | i32 | * s
cost_call                       | i64 i64 I                 |     | * s
cost_create_canister            | I                         |     | * s
cost_http_request               | i64 i64 I                 |     | * s
cost_sign_with_ecdsa            | I I i32 I                 | i32 | * s
cost_sign_with_schnorr          | I I i32 I                 | i32 | * s
cost_vetkd_derive_key           | I I i32 I                 | i32 | * s
env_var_count                   |                           | I   | *
env_var_name_size               | I                         | I   | *
env_var_name_copy               | I I I I                   |     | *
env_var_name_exists             | I I                       | i32 | *
env_var_value_size              | I I                       | I   | *
env_var_value_copy              | I I I I I                 |     | *
debug_print                     | I I                       |     | * s
trap                            | I I                       |     | * s
"""
_OLD: Final = """
msg_cycles_available            |                           | i64 | U RQ Rt Ry
msg_cycles_refunded             |                           | i64 | Rt Ry
msg_cycles_accept               | i64                       | i64 | U RQ Rt Ry
canister_cycle_balance          |                           | i64 | *
call_cycles_add                 | i64                       |     | U Ry Rt T
stable_size                     |                           | i32 | * s
stable_grow                     | i32                       | i32 | * s
stable_write                    | i32 i32 i32               |     | * s
stable_read                     | i32 i32 i32               |     | * s
"""
_EVERYWHERE: Final = frozenset(Entry) - {Entry.START}


@dataclass(frozen=True, slots=True)
class Function:
    """One line of the table. `pointer` is `i32` or `i64` once a module is known."""

    name: str
    parameters: tuple[str, ...]
    results: tuple[str, ...]
    entries: frozenset[Entry]

    def typed(self, pointer: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
        return (
            tuple(pointer if each == "I" else each for each in self.parameters),
            tuple(pointer if each == "I" else each for each in self.results),
        )


def _entries(letters: list[str]) -> frozenset[Entry]:
    found = _EVERYWHERE if "*" in letters else frozenset()
    return found | {entry for entry, letter in LETTERS.items() if letter in letters}


def _read(table: str) -> dict[str, Function]:
    lines = [[column.split() for column in line.split("|")] for line in table.strip().splitlines()]
    return {
        name: Function(name, tuple(parameters), tuple(results), _entries(letters))
        for (name,), parameters, results, letters in lines
    }


FUNCTIONS: Final = _read(_TABLE)
OLD: Final = _read(_OLD)


def type_of(function: wasmtime.FuncType) -> tuple[tuple[str, ...], tuple[str, ...]]:
    return tuple(str(each) for each in function.params), tuple(str(each) for each in function.results)
