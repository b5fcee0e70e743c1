"""The management canister and the two system canisters: what they do, for whom, and what they refuse by name."""

from __future__ import annotations

import gzip
import hashlib
from typing import Any

import pytest

from devnet.replica import MANAGEMENT_CANISTER, Network, Rejected, Status, numbered
from devnet.replica.management import CHUNK_BYTES_MAX, METHODS, QUERIES
from devnet.replica.management_types import ARGUMENTS, CANISTER_STATUS, CHUNK_HASH, CREATED
from devnet.replica.system_canisters import CYCLES_LEDGER, CYCLES_MINTING
from foundation.candid import NAT, PRINCIPAL, Record, Variant, Vec, decode, encode
from tests.canisters import CALLEE, CALLER, OWNER, Clock, callee_wasm, caller_wasm, two

STRANGER = b"\x02stranger"
SETTINGS = """
controllers compute_allocation memory_allocation freezing_threshold reserved_cycles_limit wasm_memory_limit
wasm_memory_threshold log_visibility environment_variables
"""
NO_SETTINGS: dict[str, Any] = dict.fromkeys(SETTINGS.split())


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def network(clock: Clock) -> Network:
    return two(clock)


def asked(network: Network, method: str, value: dict[str, Any], caller: bytes = OWNER) -> bytes:
    """The reply to one call, however many rounds it takes. Raises `Rejected`."""
    argument = encode(ARGUMENTS[method], [value])
    refused = network.inspect(MANAGEMENT_CANISTER, method, argument, caller)
    if refused is not None:
        raise refused.refused()
    call = network.submit(MANAGEMENT_CANISTER, method, argument, caller)
    network.round()
    return call.reply()


def about(canister: bytes) -> dict[str, Any]:
    return {"canister_id": canister}


def mode(kind: str, options: Any = None) -> dict[str, Any]:
    return {"mode": (kind, options), "arg": b""}


def status(network: Network, canister: bytes) -> dict[str, Any]:
    found: dict[str, Any] = decode([CANISTER_STATUS], asked(network, "canister_status", about(canister)))[0]
    return found


def fired(network: Network) -> bytes:
    return network.query(CALLEE, "fired", b"")


def test_every_method_has_its_types() -> None:
    assert set(ARGUMENTS) == set(METHODS) | set(QUERIES)


def test_a_canister_is_created_with_its_settings(network: Network) -> None:
    settings = {
        **NO_SETTINGS,
        "controllers": [OWNER, STRANGER],
        "log_visibility": ("public", None),
        "environment_variables": [{"name": "a", "value": "b"}],
        "freezing_threshold": 7,
    }
    reply = asked(
        network,
        "provisional_create_canister_with_cycles",
        {"amount": 5, "settings": settings, "specified_id": numbered(0x4000)},
    )
    made = decode([CREATED], reply)[0]["canister_id"]
    assert made == numbered(0x4000)
    told = status(network, made)
    assert (told["cycles"], told["module_hash"]) == (5, None)
    assert told["settings"]["controllers"] == sorted([OWNER, STRANGER])
    assert told["settings"]["environment_variables"] == [{"name": "a", "value": "b"}]
    assert told["settings"]["freezing_threshold"] == 7
    with pytest.raises(Rejected, match=made.hex()):
        asked(network, "provisional_create_canister_with_cycles", {"amount": 5, "settings": None, "specified_id": made})


def test_settings_change_for_controllers_alone(network: Network) -> None:
    wanted = {"canister_id": CALLEE, "settings": {**NO_SETTINGS, "controllers": [STRANGER]}}
    with pytest.raises(Rejected, match="only controllers"):
        asked(network, "update_settings", wanted, STRANGER)
    asked(network, "update_settings", wanted)
    with pytest.raises(Rejected, match="only controllers"):
        asked(network, "canister_status", about(CALLEE))
    assert network.canister(CALLEE).settings.controllers == {STRANGER}


def test_code_is_installed_reinstalled_and_upgraded(network: Network) -> None:
    with pytest.raises(Rejected, match=r"a canister with module [0-9a-f]{64}"):
        asked(network, "install_code", {**mode("install"), "canister_id": CALLEE, "wasm_module": callee_wasm()})
    asked(
        network,
        "install_code",
        {**mode("reinstall"), "canister_id": CALLEE, "wasm_module": gzip.compress(caller_wasm(), mtime=0)},
    )
    assert network.canister(CALLEE).exports("canister_update ask")
    assert status(network, CALLEE)["module_hash"] == hashlib.sha256(gzip.compress(caller_wasm(), mtime=0)).digest()
    options = {"skip_pre_upgrade": True, "wasm_memory_persistence": ("replace", None)}
    for how in (mode("upgrade"), mode("upgrade", options)):
        asked(network, "install_code", {**how, "canister_id": CALLEE, "wasm_module": callee_wasm()})
    assert fired(network) == bytes(4)
    with pytest.raises(Rejected, match="magic"):
        asked(network, "install_code", {**mode("upgrade"), "canister_id": CALLEE, "wasm_module": b"no module"})
    assert fired(network) == bytes(4)


def test_a_large_module_comes_in_chunks(network: Network) -> None:
    wasm = callee_wasm()
    pieces = [wasm[:100], wasm[100:]]
    for piece in pieces:
        reply = asked(network, "upload_chunk", {"canister_id": CALLER, "chunk": piece})
        assert decode([CHUNK_HASH], reply)[0]["hash"] == hashlib.sha256(piece).digest()
    stored = decode([Vec(CHUNK_HASH)], asked(network, "stored_chunks", about(CALLER)))[0]
    assert {each["hash"] for each in stored} == {hashlib.sha256(piece).digest() for piece in pieces}
    wanted = {
        **mode("reinstall"),
        "target_canister": CALLEE,
        "store_canister": CALLER,
        "chunk_hashes_list": [{"hash": hashlib.sha256(piece).digest()} for piece in pieces],
        "wasm_module_hash": hashlib.sha256(wasm).digest(),
    }
    with pytest.raises(Rejected, match=r"a module of hash [0-9a-f]{64}"):
        asked(network, "install_chunked_code", {**wanted, "wasm_module_hash": bytes(32)})
    asked(network, "install_chunked_code", wanted)
    assert fired(network) == bytes(4)
    asked(network, "clear_chunk_store", about(CALLER))
    with pytest.raises(Rejected, match="is stored"):
        asked(network, "install_chunked_code", wanted)
    with pytest.raises(Rejected, match="at most"):
        asked(network, "upload_chunk", {"canister_id": CALLER, "chunk": bytes(CHUNK_BYTES_MAX + 1)})


def test_a_canister_is_uninstalled_stopped_and_deleted(network: Network) -> None:
    waiting = network.submit(CALLEE, "wait", b"", OWNER)
    network.round()
    asked(network, "uninstall_code", about(CALLEE))
    with pytest.raises(Rejected, match="uninstalled"):
        waiting.reply()
    with pytest.raises(Rejected, match="installed canister"):
        fired(network)
    with pytest.raises(Rejected, match="only a stopped canister"):
        asked(network, "delete_canister", about(CALLEE))
    asked(network, "stop_canister", about(CALLEE))
    assert network.canister(CALLEE).status is Status.STOPPED
    asked(network, "delete_canister", about(CALLEE))
    assert CALLEE not in network.canisters
    assert network.contexts == {}
    assert network.calls == {}


def test_a_stopped_canister_has_no_timer_to_wake_for(network: Network, clock: Clock) -> None:
    network.submit(CALLEE, "in_a_second", b"", OWNER)
    network.round()
    assert network.wakes_ns() is not None
    asked(network, "stop_canister", about(CALLEE))
    assert network.wakes_ns() is None
    clock.go_on(10)
    network.round()
    asked(network, "start_canister", about(CALLEE))
    network.round()
    assert fired(network) == (1).to_bytes(4, "little")


def test_starting_again_ends_a_stop_that_waits(network: Network) -> None:
    waiting = network.submit(CALLEE, "wait", b"", OWNER)
    network.round()
    argument = encode(ARGUMENTS["stop_canister"], [about(CALLEE)])
    stopping = network.submit(MANAGEMENT_CANISTER, "stop_canister", argument, OWNER)
    network.run(*network.waiting()[-1])
    assert network.canister(CALLEE).status is Status.STOPPING
    starting = network.submit(
        MANAGEMENT_CANISTER, "start_canister", encode(ARGUMENTS["start_canister"], [about(CALLEE)]), OWNER
    )
    network.run(*network.waiting()[-1])
    starting.reply()
    with pytest.raises(Rejected, match="started before it had stopped"):
        stopping.reply()
    while waiting.outcome is None:
        network.round()
    waiting.reply()


def test_cycles_are_deposited_by_canisters_and_topped_up_by_anyone(network: Network) -> None:
    before = network.canister(CALLEE).cycles
    argument = encode(ARGUMENTS["deposit_cycles"], [about(CALLEE)])
    call = network.submit(MANAGEMENT_CANISTER, "deposit_cycles", argument, CALLER)
    [context] = network.contexts.values()
    context.cycles = 50  # as if they had come with the call of a canister
    network.round()
    call.reply()
    assert network.canister(CALLEE).cycles == before + 50
    asked(network, "provisional_top_up_canister", {"canister_id": CALLEE, "amount": 9}, STRANGER)
    assert network.canister(CALLEE).cycles == before + 59


@pytest.mark.parametrize("method", ["raw_rand", "create_canister", "deposit_cycles", "canister_info"])
def test_some_methods_are_for_canisters_alone(network: Network, method: str) -> None:
    value = {"canister_id": CALLEE, "settings": None, "num_requested_changes": None}
    argument = encode(ARGUMENTS[method], [value][: len(ARGUMENTS[method])])
    refused = network.inspect(MANAGEMENT_CANISTER, method, argument, OWNER)
    assert refused is not None
    assert refused.message == f"{method!r} is not for callers from outside"


@pytest.mark.parametrize("method", ["http_request", "sign_with_ecdsa", "take_canister_snapshot", "nothing"])
def test_a_method_that_is_not_here_is_refused_by_name(network: Network, method: str) -> None:
    call = network.submit(MANAGEMENT_CANISTER, method, b"", OWNER)
    network.round()
    with pytest.raises(Rejected, match=f"has no method '{method}'"):
        call.reply()


def test_arguments_of_another_shape_are_refused(network: Network) -> None:
    call = network.submit(MANAGEMENT_CANISTER, "canister_status", encode([NAT], [1]), OWNER)
    network.round()
    with pytest.raises(Rejected, match="candid"):
        call.reply()


# ---- system canisters

_LEDGER_CREATE = Record({"amount": NAT})
_LEDGER_CREATED = Variant({"Ok": CREATED, "Err": Variant({})})


def test_the_cycles_ledger_creates_a_canister_for_its_caller(network: Network) -> None:
    call = network.submit(CYCLES_LEDGER, "create_canister", encode([_LEDGER_CREATE], [{"amount": 77}]), STRANGER)
    network.round()
    kind, made = decode([_LEDGER_CREATED], call.reply())[0]
    assert kind == "Ok"
    created = network.canister(made["canister_id"])
    assert (created.cycles, created.settings.controllers) == (77, {STRANGER})


def test_the_minting_canister_names_the_one_subnet() -> None:
    network = Network(clock=Clock(), randomness=lambda: bytes(32), subnet_id=b"\x09" * 29)
    reply = network.query(CYCLES_MINTING, "get_default_subnets", encode([], []))
    assert decode([Vec(PRINCIPAL)], reply) == [[b"\x09" * 29]]


@pytest.mark.parametrize(("canister", "method"), [(CYCLES_LEDGER, "icrc1_transfer"), (CYCLES_MINTING, "notify_top_up")])
def test_what_a_system_canister_does_not_do_is_refused_by_name(network: Network, canister: bytes, method: str) -> None:
    call = network.submit(canister, method, encode([], []), OWNER)
    network.round()
    with pytest.raises(Rejected, match=f"no method '{method}'"):
        call.reply()
