"""The management canister, `aaaaa-aa`: what clients and canisters ask of it here, each method with its Candid types.

A method that is not here is refused with its name. Who may call what follows the interface specification: most methods
are for a canister's controllers; `raw_rand`, `create_canister` and `deposit_cycles` are for canisters alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Any, Final, Protocol

from devnet.replica.canister import CYCLES_AT_START, Canister
from devnet.replica.management_types import (
    ARGUMENTS,
    CANISTER_STATUS,
    CHUNK_HASH,
    CREATED,
    INFO,
    LOGS,
    MEMORY_METRICS,
    QUERY_STATS,
    definite_settings,
    settings_of,
)
from devnet.replica.messages import Context, Outcome, RejectCode, Rejected, Rejection
from devnet.replica.settings import Status
from foundation.candid import BLOB, CandidRefused, Type, Vec, decode, encode

RANDOM_BYTES: Final = 32
CHUNK_BYTES_MAX: Final = 1 << 20
CHUNKS_MAX: Final = 100
NOTHING: Final = encode([], [])


class Network(Protocol):
    """What this canister needs of the network it manages."""

    randomness: Callable[[], bytes]

    @property
    def canisters(self) -> dict[bytes, Canister]: ...
    @property
    def contexts(self) -> dict[int, Context]: ...
    def canister(self, canister_id: bytes) -> Canister: ...
    def create(
        self, canister_id: bytes | None = None, *, controllers: Iterable[bytes] = (), cycles: int = ...
    ) -> Canister: ...
    def install(self, canister: Canister, wasm: bytes, argument: bytes, caller: bytes) -> None: ...
    def abandon(self, canister: Canister, why: str) -> None: ...
    def respond(self, context: Context, outcome: Outcome) -> None: ...


@dataclass(slots=True)
class Asked:
    """One call to the management canister. `context` holds the cycles that came with it."""

    network: Network
    context: Context
    argument: Any

    @property
    def caller(self) -> bytes:
        return self.context.caller

    def canister(self, field: str = "canister_id") -> Canister:
        return self.network.canister(self.argument[field])

    def controlled(self, field: str = "canister_id") -> Canister:
        """Raises `Rejected` if the caller is not one of the canister's controllers (nor the canister itself)."""
        return _controlled(self.network, self.argument[field], self.caller)

    def take_cycles(self) -> int:
        cycles, self.context.cycles = self.context.cycles, 0
        return cycles


def _controlled(network: Network, canister_id: bytes, caller: bytes) -> Canister:
    canister = network.canister(canister_id)
    if caller != canister_id and not canister.is_controller(caller):
        raise Rejected("canister_reject", expected="a controller", got="only controllers of the canister can do this")
    return canister


# ---- making and describing canisters


def _create(asked: Asked, cycles: int, specified: bytes | None = None) -> bytes:
    settings = asked.argument["settings"]
    made = asked.network.create(specified, controllers={asked.caller}, cycles=cycles)
    if settings is not None:
        made.change(**settings_of(settings))
    return encode([CREATED], [{"canister_id": made.canister_id}])


def _create_canister(asked: Asked) -> Outcome:
    return _create(asked, asked.take_cycles())


def _provisional_create(asked: Asked) -> Outcome:
    amount = asked.argument["amount"]
    return _create(asked, CYCLES_AT_START if amount is None else amount, asked.argument["specified_id"])


def _provisional_top_up(asked: Asked) -> Outcome:
    asked.canister().cycles += asked.argument["amount"]
    return NOTHING


def _deposit_cycles(asked: Asked) -> Outcome:
    asked.canister().cycles += asked.take_cycles()
    return NOTHING


def _update_settings(asked: Asked) -> Outcome:
    asked.controlled().change(**settings_of(asked.argument["settings"]))
    return NOTHING


def _status(canister: Canister) -> Outcome:
    memory = canister.instance.memory_bytes if canister.instance is not None else 0
    stable = len(canister.stable.content())
    code = canister.code
    module = len(code.installed) if code is not None else 0
    return encode(
        [CANISTER_STATUS],
        [
            {
                "status": (canister.status.name.lower(), None),
                "settings": definite_settings(canister.settings),
                "module_hash": None if code is None else code.digest,
                "memory_size": memory + stable + module,
                "memory_metrics": {
                    **dict.fromkeys(MEMORY_METRICS, 0),
                    "wasm_memory_size": memory,
                    "stable_memory_size": stable,
                    "wasm_binary_size": module,
                    "wasm_chunk_store_size": sum(map(len, canister.chunks.values())),
                },
                "cycles": canister.cycles,
                "reserved_cycles": 0,
                "idle_cycles_burned_per_day": 0,
                "ready_for_migration": False,
                "version": canister.version,
                "query_stats": dict.fromkeys(QUERY_STATS, 0),
            }
        ],
    )


def _canister_status(asked: Asked) -> Outcome:
    return _status(asked.controlled())


def _canister_info(asked: Asked) -> Outcome:
    canister = asked.canister()
    code = canister.code
    return encode(
        [INFO],
        [
            {
                "total_num_changes": canister.version,
                "recent_changes": [],
                "module_hash": None if code is None else code.digest,
                "controllers": sorted(canister.settings.controllers),
            }
        ],
    )


# ---- code


def _put_code(asked: Asked, canister: Canister, wasm: bytes) -> bytes:
    kind, options = asked.argument["mode"]
    argument = asked.argument["arg"]
    if kind == "install" and canister.instance is not None:
        raise Rejected(
            "canister_error",
            expected="an empty canister",
            got=f"a canister with module {canister.instance.code.digest.hex()}",
        )
    if kind == "upgrade":
        options = options or {}
        persistence = options.get("wasm_memory_persistence")
        canister.upgrade(
            wasm,
            argument,
            asked.caller,
            skip_pre_upgrade=bool(options.get("skip_pre_upgrade")),
            keep_memory=None if persistence is None else persistence[0] == "keep",
        )
    else:
        asked.network.install(canister, wasm, argument, asked.caller)
    return NOTHING


def _install_code(asked: Asked) -> Outcome:
    return _put_code(asked, asked.controlled(), asked.argument["wasm_module"])


def _upload_chunk(asked: Asked) -> Outcome:
    canister, chunk = asked.controlled(), asked.argument["chunk"]
    digest = sha256(chunk).digest()
    if len(chunk) > CHUNK_BYTES_MAX or (digest not in canister.chunks and len(canister.chunks) >= CHUNKS_MAX):
        expected = f"{CHUNKS_MAX} chunks of at most {CHUNK_BYTES_MAX} bytes"
        raise Rejected("canister_reject", expected=expected, got=f"expected {expected}")
    canister.chunks[digest] = chunk
    return encode([CHUNK_HASH], [{"hash": digest}])


def _clear_chunk_store(asked: Asked) -> Outcome:
    asked.controlled().chunks.clear()
    return NOTHING


def _stored_chunks(asked: Asked) -> Outcome:
    return encode([Vec(CHUNK_HASH)], [[{"hash": digest} for digest in sorted(asked.controlled().chunks)]])


def _install_chunked_code(asked: Asked) -> Outcome:
    target = asked.controlled("target_canister")
    store = target
    if asked.argument["store_canister"] is not None:
        store = asked.controlled("store_canister")
    hashes = [each["hash"] for each in asked.argument["chunk_hashes_list"]]
    if missing := [each for each in hashes if each not in store.chunks]:
        raise Rejected("canister_reject", expected="stored chunks", got=f"no chunk {missing[0].hex()} is stored")
    wasm = b"".join(store.chunks[each] for each in hashes)
    if sha256(wasm).digest() != asked.argument["wasm_module_hash"]:
        raise Rejected(
            "canister_reject",
            expected="the stated hash",
            got=f"the chunks make a module of hash {sha256(wasm).hexdigest()}",
        )
    return _put_code(asked, target, wasm)


def _uninstall_code(asked: Asked) -> Outcome:
    canister = asked.controlled()
    canister.uninstall()
    asked.network.abandon(canister, "the canister was uninstalled")
    return NOTHING


# ---- running and stopping


def _start_canister(asked: Asked) -> Outcome:
    canister = asked.controlled()
    if canister.status is Status.STOPPING:
        for number in canister.stops:
            waiting = asked.network.contexts[number]
            asked.network.respond(
                waiting, Rejection(RejectCode.CANISTER_REJECT, "the canister was started before it had stopped")
            )
        canister.stops = []
    canister.status = Status.RUNNING
    return NOTHING


def _stop_canister(asked: Asked) -> Outcome | None:
    canister = asked.controlled()
    if canister.status is Status.STOPPED:
        return NOTHING
    canister.status = Status.STOPPING
    canister.stops.append(asked.context.number)
    return None


def _delete_canister(asked: Asked) -> Outcome:
    canister = asked.controlled()
    if canister.status is not Status.STOPPED:
        raise Rejected("canister_error", expected="a stopped canister", got="only a stopped canister can be deleted")
    asked.network.abandon(canister, "the canister was deleted")
    del asked.network.canisters[canister.canister_id]
    return NOTHING


def _raw_rand(asked: Asked) -> Outcome:
    random = asked.network.randomness()
    if len(random) != RANDOM_BYTES:
        raise ValueError(f"randomness gives {RANDOM_BYTES} bytes a time, got {len(random)}")
    return encode([BLOB], [random])


def _fetch_logs(asked: Asked) -> Outcome:
    canister = asked.canister() if asked.canister().settings.logs_public else asked.controlled()
    return encode(
        [LOGS],
        [
            {
                "canister_log_records": [
                    {"idx": number, "timestamp_nanos": 0, "content": line.encode()}
                    for number, line in enumerate(canister.prints)
                ]
            }
        ],
    )


METHODS: Final[dict[str, Callable[[Asked], Outcome | None]]] = {
    "canister_info": _canister_info,
    "canister_status": _canister_status,
    "clear_chunk_store": _clear_chunk_store,
    "create_canister": _create_canister,
    "delete_canister": _delete_canister,
    "deposit_cycles": _deposit_cycles,
    "install_chunked_code": _install_chunked_code,
    "install_code": _install_code,
    "provisional_create_canister_with_cycles": _provisional_create,
    "provisional_top_up_canister": _provisional_top_up,
    "raw_rand": _raw_rand,
    "start_canister": _start_canister,
    "stop_canister": _stop_canister,
    "stored_chunks": _stored_chunks,
    "uninstall_code": _uninstall_code,
    "update_settings": _update_settings,
    "upload_chunk": _upload_chunk,
}
QUERIES: Final[dict[str, Callable[[Asked], Outcome]]] = {
    "canister_status": _canister_status,
    "fetch_canister_logs": _fetch_logs,
}
_FOR_CANISTERS: Final = frozenset({"raw_rand", "create_canister", "deposit_cycles", "canister_info"})
_FOR_ANYONE: Final = frozenset({"provisional_create_canister_with_cycles", "provisional_top_up_canister"})


def effective_canister(method: str, argument: bytes) -> bytes | None:
    """The canister that a call is about; None for one that makes it. Raises `Rejected`."""
    asked = _decoded(method, argument)
    if not isinstance(asked, dict) or method in ("create_canister", "provisional_create_canister_with_cycles"):
        return None
    found: bytes | None = asked.get("target_canister", asked.get("canister_id"))
    return found


def inspect(network: Network, method: str, argument: bytes, caller: bytes) -> None:
    """Raises `Rejected` for a call from outside that no run could answer otherwise."""
    about = effective_canister(method, argument)
    if method not in METHODS or method in _FOR_CANISTERS:
        what = f"{method!r} is not for callers from outside"
        raise Rejected("canister_reject", expected="an update method for everybody", got=what)
    if method not in _FOR_ANYONE and about is not None:
        _controlled(network, about, caller)


def run(network: Network, context: Context, method: str, argument: bytes) -> Outcome | None:
    """The response; None if it comes later. Raises `Rejected`."""
    asked = Asked(network, context, _decoded(method, argument))
    if method not in METHODS:
        raise Rejected("canister_reject", expected="an update method", got=f"{method!r} is a query")
    return METHODS[method](asked)


def query(network: Network, method: str, argument: bytes, caller: bytes) -> bytes:
    """Raises `Rejected`."""
    decoded = _decoded(method, argument)
    if method not in QUERIES:
        raise Rejected("canister_reject", expected="a query method", got=f"{method!r} is no query")
    outcome = QUERIES[method](Asked(network, Context(0, b"", caller), decoded))
    if not isinstance(outcome, bytes):
        raise outcome.refused()
    return outcome


def _decoded(method: str, argument: bytes) -> Any:
    if method not in ARGUMENTS:
        what = f"the management canister of this devnet has no method {method!r}"
        raise Rejected("destination_invalid", expected=f"one of {', '.join(sorted(ARGUMENTS))}", got=what)
    types: Sequence[Type] = ARGUMENTS[method]
    if not types:
        return None
    try:
        values = decode(types, argument)
    except CandidRefused as refused:
        raise Rejected("canister_error", expected=f"arguments of {method}", got=str(refused)) from None
    return values[0]
