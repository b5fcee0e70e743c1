"""The gateway canister, run: its formats, its limits and its turns.

Formats are held to order.md O1 to O6, O10, O11 by the Python readers, which share no code with the canister.
"""

from __future__ import annotations

from typing import Any

import pytest

from anchorhold.host.gateway_client import chat
from appliance.ordering.sequencer import Sequencer
from attestation.consensus.blocks import Block, Header, Kind, genesis
from attestation.consensus.slices import SliceProof, verify_slice
from devnet.gateway import ARTEFACTS, Gateway, gateway_wasm
from devnet.lone_gateway import OWNER, REPORTER
from devnet.replica import ANONYMOUS, Rejected
from devnet.replica.module import exported_functions
from devnet.subnet import GATEWAY
from foundation.digests import tagged_sha256
from tests.gateways import Bench, caller, certified_root
from tests.unit.devnet.gateway_calls import ALICE, BOB, ask, biases, blocks_of, refused

SILENT = ("user", {"content": ""})
TOOL = ("function", {"name": "f", "description": None, "parameters": None})
TOOL_CALL = {"id": "", "function": {"name": "", "arguments": []}}
LONG_CALL = {"id": "", "function": {"name": "", "arguments": [{"name": "a", "value": "v"}] * 65}}
PROPERTY = {"type": "string", "name": "p", "description": None, "enum": None}


def tool_with(**parameters: Any) -> tuple[str, dict[str, Any]]:
    absent = {"type": "object", "properties": None, "required": None}
    return "function", {"name": "f", "description": None, "parameters": {**absent, **parameters}}


# ---- formats


def test_before_the_first_block_genesis_is_certified(bench: Bench) -> None:
    assert bench.replica.certified_data == certified_root(genesis(GATEWAY))
    assert bench.gateway.get_slice(1).encoded == ()
    assert bench.gateway.status()["head_link"] == genesis(GATEWAY)


def test_a_block_is_what_the_specification_says(bench: Bench) -> None:
    gateway = bench.gateway
    gateway.submit_chat(ALICE, ask("one"))
    gateway.submit_sealed(BOB, b"opaque")
    sealed = gateway.seal_block(OWNER)
    (block,) = blocks_of(gateway)

    assert block.encode() == gateway.get_slice(1).encoded[0]
    assert block.header.canister == GATEWAY
    assert (block.header.height, block.header.parent) == (1, genesis(GATEWAY))
    assert (block.header.first_id, block.header.count) == (0, 2)
    assert [(request.caller, request.kind) for request in block.requests] == [(ALICE, Kind.PLAIN), (BOB, Kind.SEALED)]
    assert block.requests[1].payload.reveal() == b"opaque"
    assert sealed is not None
    assert sealed.link == block.header.link()
    assert bench.replica.certified_data == certified_root(sealed.link)


def test_a_slice_verifies_under_the_subnets_root(bench: Bench) -> None:
    gateway = bench.gateway
    for height in range(1, 6):
        gateway.submit_chat(caller(height), ask(str(height)))
        gateway.seal_block(REPORTER)
    slice_ = gateway.get_slice(2)
    assert slice_.certificate is not None
    headers = tuple(Block.decode(raw).header for raw in slice_.encoded)
    verified = verify_slice(
        SliceProof(slice_.certificate, headers, slice_.tree), root_key=bench.subnet.root_key, canister=GATEWAY
    )
    assert verified.head_link == slice_.head_link
    assert tuple(gateway.get_headers(2).encoded) == tuple(header.encode() for header in headers)


def test_a_cells_sequencer_takes_what_the_gateway_sealed(bench: Bench) -> None:
    gateway = bench.gateway
    sequencer = Sequencer(root_key=bench.subnet.root_key, canister=GATEWAY)
    released: list[bytes] = []
    for round_ in range(3):
        for number in range(12):
            gateway.submit_sealed(caller(number), b"%d %d" % (round_, number) + bytes(100_000))
        while gateway.seal_block(REPORTER) is not None:
            pass
        carried = gateway.proof_and_bodies(sequencer.position.height + 1 if sequencer.position else 1)
        assert carried is not None
        proof, bodies = carried
        sequencer.propose(proof)
        for body in bodies:
            released += [request.payload.reveal()[:4].strip(b"\0") for request in sequencer.supply(body)]
    assert released == [b"%d %d" % (round_, number) for round_ in range(3) for number in range(12)]
    assert sequencer.wants is None
    assert gateway.proof_and_bodies(7) is None
    with refused("slice.range"):
        gateway.proof_and_bodies(0)


# ---- limits


@pytest.mark.parametrize(
    ("code", "request_"),
    [
        ("request.model_empty", chat("", SILENT)),
        ("request.model_bytes", chat("m" * 129, SILENT)),
        ("request.model_characters", chat("two words", SILENT)),
        ("request.model_characters", chat("modèle", SILENT)),
        ("request.messages_empty", chat("m")),
        ("request.messages", chat("m", *[SILENT] * 129)),
        ("request.payload_bytes", chat("m", ("user", {"content": "x" * 131_072}))),
        ("request.tools", chat("m", SILENT, tools=[TOOL] * 65)),
        ("request.tool_calls", chat("m", ("assistant", {"content": None, "tool_calls": [TOOL_CALL] * 65}))),
        ("sampling.temperature_micro", chat("m", SILENT, sampling={"temperature_micro": 2_000_001})),
        ("sampling.top_p_micro", chat("m", SILENT, sampling={"top_p_micro": 0})),
        ("sampling.top_p_micro", chat("m", SILENT, sampling={"top_p_micro": 1_000_001})),
        ("sampling.top_k", chat("m", SILENT, sampling={"top_k": 0})),
        ("sampling.max_tokens", chat("m", SILENT, sampling={"max_tokens": 0})),
        ("sampling.max_tokens", chat("m", SILENT, sampling={"max_tokens": 32_769})),
        ("sampling.stop", chat("m", SILENT, sampling={"stop": ["s"] * 17})),
        ("sampling.stop_empty", chat("m", SILENT, sampling={"stop": [""]})),
        ("sampling.stop_bytes", chat("m", SILENT, sampling={"stop": ["s" * 257]})),
        ("sampling.min_p_micro", chat("m", SILENT, sampling={"min_p_micro": 1_000_001})),
        ("sampling.repetition_penalty_micro", chat("m", SILENT, sampling={"repetition_penalty_micro": 99_999})),
        ("sampling.repetition_penalty_micro", chat("m", SILENT, sampling={"repetition_penalty_micro": 10_000_001})),
        ("sampling.presence_penalty_micro", chat("m", SILENT, sampling={"presence_penalty_micro": -2_000_001})),
        ("sampling.frequency_penalty_micro", chat("m", SILENT, sampling={"frequency_penalty_micro": 2_000_001})),
        ("sampling.logit_bias", chat("m", SILENT, sampling={"logit_bias": biases(dict.fromkeys(range(257), 0))})),
        ("sampling.logit_bias_order", chat("m", SILENT, sampling={"logit_bias": biases({4: 0}) * 2})),
        ("sampling.logit_bias_token", chat("m", SILENT, sampling={"logit_bias": biases({1 << 20: 0})})),
        ("sampling.logit_bias_micro", chat("m", SILENT, sampling={"logit_bias": biases({4: 100_000_001})})),
        ("request.arguments", chat("m", ("assistant", {"content": None, "tool_calls": [LONG_CALL]}))),
        ("request.properties", chat("m", SILENT, tools=[tool_with(required=["r"] * 65)])),
        ("request.properties", chat("m", SILENT, tools=[tool_with(properties=[PROPERTY] * 65)])),
        ("request.properties", chat("m", SILENT, tools=[tool_with(properties=[{**PROPERTY, "enum": ["e"] * 65}])])),
    ],
)  # fmt: skip
def test_a_request_beyond_a_limit_is_refused_by_name(gateway: Gateway, code: str, request_: dict[str, Any]) -> None:
    with refused(code):
        gateway.submit_chat(ALICE, request_)
    assert gateway.status()["queued"] == 0
    assert gateway.status()["next_ticket"] == 0


def test_sealed_payloads_have_a_size(gateway: Gateway) -> None:
    with refused("request.payload_empty"):
        gateway.submit_sealed(ALICE, b"")
    with refused("request.payload_bytes"):
        gateway.submit_sealed(ALICE, bytes(131_073))


def test_a_message_too_large_to_decode_is_not_accepted(gateway: Gateway) -> None:
    with pytest.raises(Rejected, match="explicitly refused"):
        gateway.submit_sealed(ALICE, bytes(1_048_577))


def test_the_anonymous_caller_is_not_accepted(gateway: Gateway) -> None:
    with pytest.raises(Rejected, match="explicitly refused"):
        gateway.submit_chat(ANONYMOUS, ask("who am I"))


def test_a_block_stops_at_its_bytes_and_a_slice_at_its_own(gateway: Gateway) -> None:
    for number in range(20):
        gateway.submit_sealed(caller(number), bytes(131_072))
    counts = []
    while (sealed := gateway.seal_block(OWNER)) is not None:
        counts.append(sealed.count)
    assert counts == [8, 8, 4]
    first = gateway.get_slice(1)
    assert len(first.encoded) == 1
    assert first.head_height == 3
    assert len(gateway.get_slice(2).encoded) == 1  # 1.0 MiB and 0.5 MiB are beyond 1.5 MiB with their heads
    assert len(gateway.get_slice(3).encoded) == 1
    assert len(gateway.get_headers(1).encoded) == 3


def test_the_canister_states_its_limits(gateway: Gateway) -> None:
    limits = gateway.limits()
    assert limits["payload_bytes_max"] == 131_072
    assert limits["queued_per_caller_max"] == 64


# ---- turns


def test_callers_take_turns_and_the_turn_survives_the_block(gateway: Gateway) -> None:
    for number in range(64):
        gateway.submit_sealed(ALICE, b"a%d" % number)
    for number in range(3):
        gateway.submit_sealed(BOB, b"b%d" % number)
    gateway.seal_block(OWNER)
    (block,) = blocks_of(gateway)
    order = [request.payload.reveal() for request in block.requests]
    assert order[:7] == [b"a0", b"b0", b"a1", b"b1", b"a2", b"b2", b"a3"]
    assert order[7:] == [b"a%d" % number for number in range(4, 64)]


def test_a_large_prompt_is_not_overtaken_for_ever(gateway: Gateway) -> None:
    for number in range(8):
        gateway.submit_sealed(caller(number), bytes(131_072))
    gateway.submit_sealed(caller(8), bytes(131_072))
    gateway.submit_sealed(caller(9), b"small")
    gateway.seal_block(OWNER)
    gateway.seal_block(OWNER)
    assert [request.caller for request in blocks_of(gateway, 2)[0].requests] == [caller(8), caller(9)]


# ---- the artefact


def test_the_checked_in_interface_names_every_method_the_module_exports() -> None:
    exported = set()
    for function in exported_functions(gateway_wasm()):
        kind, _, name = function.partition(" ")
        if kind.startswith("canister_") and name and not name.startswith(("__", "@")):
            exported.add(name)
    did = (ARTEFACTS / "gateway.did").read_text("utf-8")
    service = did[did.index("service :") :]
    assert exported == {name for name in exported if f"  {name}: (" in service}
    assert {"submit_chat", "submit_sealed", "take_answer", "seal_block", "get_slice"} <= exported


def test_a_module_with_another_digest_is_refused(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "gateway.wasm").write_bytes(gateway_wasm() + b"\0")
    (tmp_path / "gateway.wasm.sha256").write_bytes((ARTEFACTS / "gateway.wasm.sha256").read_bytes())
    monkeypatch.setattr("devnet.gateway.ARTEFACTS", tmp_path)
    with refused("wasm.digest"):
        gateway_wasm()


def test_headers_are_the_specifications(gateway: Gateway) -> None:
    gateway.submit_sealed(ALICE, b"x")
    gateway.seal_block(OWNER)
    (raw,) = gateway.get_headers(1).encoded
    header: Header = blocks_of(gateway)[0].header
    assert raw == header.encode()
    assert gateway.status()["head_link"] == tagged_sha256("anchorhold/link/v1", raw)
