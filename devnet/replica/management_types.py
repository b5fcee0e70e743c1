"""Candid types of the management canister's methods, by name, and settings in both directions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from devnet.replica.settings import Settings
from foundation.candid import BLOB, BOOL, NAT, NAT64, NULL, PRINCIPAL, TEXT, Opt, Record, Type, Variant, Vec

_VISIBILITY: Final = Variant({"controllers": NULL, "public": NULL, "allowed_viewers": Vec(PRINCIPAL)})
_VARIABLES: Final = Vec(Record({"name": TEXT, "value": TEXT}))
_NUMBERS: Final = (
    "compute_allocation",
    "memory_allocation",
    "freezing_threshold",
    "reserved_cycles_limit",
    "wasm_memory_limit",
    "wasm_memory_threshold",
)
SETTINGS: Final = Record(
    {
        "controllers": Opt(Vec(PRINCIPAL)),
        **{name: Opt(NAT) for name in _NUMBERS},
        "log_visibility": Opt(_VISIBILITY),
        "environment_variables": Opt(_VARIABLES),
    }
)
_DEFINITE: Final = Record(
    {
        "controllers": Vec(PRINCIPAL),
        **dict.fromkeys(_NUMBERS, NAT),
        "log_visibility": _VISIBILITY,
        "snapshot_visibility": _VISIBILITY,
        "status_visibility": _VISIBILITY,
        "log_memory_limit": NAT,
        "minimum_incoming_canister_call_cycles": NAT,
        "environment_variables": _VARIABLES,
    }
)
_ABOUT: Final = Record({"canister_id": PRINCIPAL})
_MODE: Final = Variant(
    {
        "install": NULL,
        "reinstall": NULL,
        "upgrade": Opt(
            Record(
                {
                    "skip_pre_upgrade": Opt(BOOL),
                    "wasm_memory_persistence": Opt(Variant({"keep": NULL, "replace": NULL})),
                }
            )
        ),
    }
)
CHUNK_HASH: Final = Record({"hash": BLOB})
CREATED: Final = Record({"canister_id": PRINCIPAL})
INFO: Final = Record(
    {
        "total_num_changes": NAT64,
        "recent_changes": Vec(Record({})),
        "module_hash": Opt(BLOB),
        "controllers": Vec(PRINCIPAL),
    }
)
LOGS: Final = Record({"canister_log_records": Vec(Record({"idx": NAT64, "timestamp_nanos": NAT64, "content": BLOB}))})
MEMORY_METRICS: Final = (
    "wasm_memory_size",
    "stable_memory_size",
    "global_memory_size",
    "wasm_binary_size",
    "custom_sections_size",
    "canister_history_size",
    "wasm_chunk_store_size",
    "snapshots_size",
    "log_memory_store_size",
)
QUERY_STATS: Final = (
    "num_calls_total",
    "num_instructions_total",
    "request_payload_bytes_total",
    "response_payload_bytes_total",
)
CANISTER_STATUS: Final = Record(
    {
        "status": Variant({"running": NULL, "stopping": NULL, "stopped": NULL}),
        "settings": _DEFINITE,
        "module_hash": Opt(BLOB),
        "memory_size": NAT,
        "cycles": NAT,
        "reserved_cycles": NAT,
        "idle_cycles_burned_per_day": NAT,
        "ready_for_migration": BOOL,
        "version": NAT64,
        "memory_metrics": Record(dict.fromkeys(MEMORY_METRICS, NAT)),
        "query_stats": Record(dict.fromkeys(QUERY_STATS, NAT)),
    }
)
ARGUMENTS: Final[Mapping[str, tuple[Type, ...]]] = {
    "canister_info": (Record({"canister_id": PRINCIPAL, "num_requested_changes": Opt(NAT64)}),),
    "canister_status": (_ABOUT,),
    "clear_chunk_store": (_ABOUT,),
    "delete_canister": (_ABOUT,),
    "deposit_cycles": (_ABOUT,),
    "fetch_canister_logs": (_ABOUT,),
    "start_canister": (_ABOUT,),
    "stop_canister": (_ABOUT,),
    "stored_chunks": (_ABOUT,),
    "uninstall_code": (_ABOUT,),
    "raw_rand": (),
    "create_canister": (Record({"settings": Opt(SETTINGS)}),),
    "provisional_create_canister_with_cycles": (
        Record({"amount": Opt(NAT), "settings": Opt(SETTINGS), "specified_id": Opt(PRINCIPAL)}),
    ),
    "provisional_top_up_canister": (Record({"canister_id": PRINCIPAL, "amount": NAT}),),
    "update_settings": (Record({"canister_id": PRINCIPAL, "settings": SETTINGS}),),
    "upload_chunk": (Record({"canister_id": PRINCIPAL, "chunk": BLOB}),),
    "install_code": (Record({"mode": _MODE, "canister_id": PRINCIPAL, "wasm_module": BLOB, "arg": BLOB}),),
    "install_chunked_code": (
        Record(
            {
                "mode": _MODE,
                "target_canister": PRINCIPAL,
                "store_canister": Opt(PRINCIPAL),
                "chunk_hashes_list": Vec(CHUNK_HASH),
                "wasm_module_hash": BLOB,
                "arg": BLOB,
            }
        ),
    ),
}


def settings_of(given: Mapping[str, Any]) -> dict[str, object]:
    """The fields of `Settings` that a caller names."""
    named: dict[str, object] = {name: given[name] for name in _NUMBERS if given[name] is not None}
    if given["controllers"] is not None:
        named["controllers"] = frozenset(given["controllers"])
    if given["log_visibility"] is not None:
        named["logs_public"] = given["log_visibility"][0] == "public"
    if given["environment_variables"] is not None:
        named["environment"] = {each["name"]: each["value"] for each in given["environment_variables"]}
    return named


def definite_settings(settings: Settings) -> dict[str, Any]:
    return {
        "controllers": sorted(settings.controllers),
        **{name: getattr(settings, name) for name in _NUMBERS},
        "log_visibility": ("public" if settings.logs_public else "controllers", None),
        "snapshot_visibility": ("controllers", None),
        "status_visibility": ("controllers", None),
        "log_memory_limit": 4_096,
        "minimum_incoming_canister_call_cycles": 0,
        "environment_variables": [
            {"name": name, "value": value} for name, value in sorted(settings.environment.items())
        ],
    }
