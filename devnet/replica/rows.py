"""A network's canisters, calls, contexts and calls from outside as CBOR, and back: for `kept`.

Each row is a list in a fixed order. Amounts of cycles may pass 64 bits, so they are bytes.
"""

from __future__ import annotations

import struct
from typing import Any

from devnet.replica.canister import Canister
from devnet.replica.messages import Call, Callback, Context, Outcome, OutgoingCall, RejectCode, Rejection, Stage
from devnet.replica.settings import Settings, Status
from foundation import cbor


def _amount(cycles: int) -> bytes:
    return cycles.to_bytes(16, "big")


def _to_amount(raw: bytes) -> int:
    return int.from_bytes(raw, "big")


def _list(entry: bytes) -> list[Any]:
    value = cbor.decode(entry)
    if not isinstance(value, list):
        raise TypeError("a row is a list")
    return value


def _outcome(outcome: Outcome | None) -> cbor.Encodable:
    match outcome:
        case Rejection(code, message):
            return [int(code), message]
        case _:
            return outcome


def _to_outcome(value: Any) -> Outcome | None:
    if isinstance(value, list):
        code, message = value
        return Rejection(RejectCode(code), message)
    reply: bytes | None = value
    return reply


# ---- canisters


def _global(value: Any) -> cbor.Encodable:
    return ["f", struct.pack("<d", value)] if isinstance(value, float) else ["i", int(value)]


def _to_global(value: Any) -> Any:
    kind, held = value
    return struct.unpack("<d", held)[0] if kind == "f" else held


def of_canister(canister: Canister) -> bytes:
    settings, code = canister.settings, canister.code
    values = canister.instance.global_values if canister.instance is not None else ()
    return cbor.encode(
        [
            _amount(canister.cycles),
            canister.status.value,
            canister.version,
            canister.certified_data,
            canister.timer_ns,
            [*canister.prints],
            [*canister.stops],
            {**canister.chunks},
            b"" if code is None else code.digest,
            [_global(value) for value in values],
            [
                sorted(settings.controllers),
                settings.compute_allocation,
                settings.memory_allocation,
                settings.freezing_threshold,
                settings.reserved_cycles_limit,
                settings.wasm_memory_limit,
                settings.wasm_memory_threshold,
                settings.logs_public,
                dict(settings.environment),
            ],
        ]
    )


def to_canister(entry: bytes, canister: Canister) -> tuple[bytes, tuple[Any, ...]]:
    """Fills the canister; its module's digest and its globals are for whoever makes the instance."""
    cycles, status, version, certified, timer, prints, stops, chunks, digest, values, settings = _list(entry)
    canister.cycles, canister.status, canister.version = _to_amount(cycles), Status(status), version
    canister.certified_data, canister.timer_ns = certified, timer
    canister.prints, canister.stops, canister.chunks = prints, stops, chunks
    controllers, *others = settings
    canister.settings = Settings(frozenset(controllers), *others)
    return digest, tuple(_to_global(value) for value in values)


# ---- calls


def _callback(callback: Callback | None) -> cbor.Encodable:
    return None if callback is None else [callback.table_index, callback.environment]


def _to_callback(value: Any) -> Callback:
    return Callback(*value)


def of_call(call: OutgoingCall) -> bytes:
    return cbor.encode(
        [
            call.number,
            call.caller,
            call.context,
            call.callee,
            call.method,
            call.argument,
            _callback(call.on_reply),
            _callback(call.on_reject),
            _callback(call.on_cleanup),
            _amount(call.cycles),
            call.deadline_ns,
            int(call.stage),
            _outcome(call.outcome),
            call.place,
        ]
    )


def to_call(entry: bytes) -> OutgoingCall:
    (
        number,
        caller,
        context,
        callee,
        method,
        argument,
        on_reply,
        on_reject,
        on_cleanup,
        cycles,
        deadline,
        stage,
        outcome,
        place,
    ) = _list(entry)
    return OutgoingCall(
        number,
        caller,
        context,
        callee,
        method,
        argument,
        _to_callback(on_reply),
        _to_callback(on_reject),
        None if on_cleanup is None else _to_callback(on_cleanup),
        _to_amount(cycles),
        deadline,
        Stage(stage),
        _to_outcome(outcome),
        place,
    )


def of_context(context: Context) -> bytes:
    return cbor.encode(
        [
            context.number,
            context.canister,
            context.caller,
            context.ingress,
            context.call,
            context.queued,
            context.deadline_ns,
            _amount(context.cycles),
            context.fuel,
            context.responded,
            context.outstanding,
        ]
    )


def to_context(entry: bytes) -> Context:
    number, canister, caller, ingress, call, queued, deadline, cycles, fuel, responded, outstanding = _list(entry)
    return Context(
        number, canister, caller, ingress, call, queued, deadline, _to_amount(cycles), fuel, responded, outstanding
    )


def of_ingress(call: Call) -> bytes:
    return cbor.encode(
        [
            call.canister,
            call.method,
            call.argument,
            call.caller,
            call.request_id,
            call.expiry_ns,
            call.started,
            _outcome(call.outcome),
        ]
    )


def to_ingress(entry: bytes) -> Call:
    canister, method, argument, caller, request_id, expiry, started, outcome = _list(entry)
    return Call(canister, method, argument, caller, request_id, expiry, started, _to_outcome(outcome))
