"""The gateway canister, run: its formats, its limits, its turns, its answers, and what an upgrade leaves.

Formats are held to order.md O1 to O6, O10, O11 by the Python readers, which share no code with the canister.
"""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from appliance.ordering.sequencer import Sequencer
from attestation.consensus.blocks import Block, Header, Kind, genesis
from attestation.consensus.chat import RAISED, ChatRequest
from attestation.consensus.slices import SliceProof, verify_slice
from devnet.gateway import ARTEFACTS, Gateway, GatewayRefused, Position, Waiting, chat, gateway_wasm
from devnet.replica import ANONYMOUS, RejectCode, Rejected, Rejection, management
from devnet.replica.module import exported_functions
from devnet.subnet import GATEWAY
from foundation import cbor
from foundation.digests import tagged_sha256
from foundation.secrecy import Prompt
from tests.gateways import OWNER, REPORTER, Bench, caller, canister, certified_root

ALICE, BOB = caller(1), caller(2)
STRANGER = b"\x02stranger"


@pytest.fixture
def bench() -> Bench:
    return Bench()


@pytest.fixture
def gateway(bench: Bench) -> Gateway:
    return bench.gateway


def ask(text: str) -> dict[str, Any]:
    return chat("tiny", ("user", {"content": text}))


SILENT = ("user", {"content": ""})
TOOL = ("function", {"name": "f", "description": None, "parameters": None})
TOOL_CALL = {"id": "", "function": {"name": "", "arguments": []}}
LONG_CALL = {"id": "", "function": {"name": "", "arguments": [{"name": "a", "value": "v"}] * 65}}
PROPERTY = {"type": "string", "name": "p", "description": None, "enum": None}


def tool_with(**parameters: Any) -> tuple[str, dict[str, Any]]:
    absent = {"type": "object", "properties": None, "required": None}
    return "function", {"name": "f", "description": None, "parameters": {**absent, **parameters}}


def blocks_of(gateway: Gateway, first: int = 1) -> list[Block]:
    return [Block.decode(raw) for raw in gateway.get_slice(first).encoded]


def refused(code: str) -> Any:
    return pytest.raises(GatewayRefused, match=code.replace(".", r"\."))


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


# The request in every shape the interface allows; text of any script.
texts = st.text(alphabet=st.characters(exclude_categories=("Cs",)), max_size=30)
models = st.text(alphabet=st.characters(min_codepoint=0x21, max_codepoint=0x7E), min_size=1, max_size=40)


def options(of: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.one_of(st.none(), of)


arguments = st.lists(st.fixed_dictionaries({"name": texts, "value": texts}), max_size=3)
functions_called = st.fixed_dictionaries({"name": texts, "arguments": arguments})
calls = st.fixed_dictionaries({"id": texts, "function": functions_called})
contents = st.fixed_dictionaries({"content": texts})
assistants = st.fixed_dictionaries({"content": options(texts), "tool_calls": st.lists(calls, max_size=3)})
tool_results = st.fixed_dictionaries({"content": texts, "tool_call_id": texts})
messages = st.one_of(
    st.tuples(st.sampled_from(["user", "system"]), contents),
    st.tuples(st.just("assistant"), assistants),
    st.tuples(st.just("tool"), tool_results),
)
properties = st.fixed_dictionaries(
    {"type": texts, "name": texts, "description": options(texts), "enum": options(st.lists(texts, max_size=3))}
)
parameters = st.fixed_dictionaries(
    {
        "type": texts,
        "properties": options(st.lists(properties, max_size=3)),
        "required": options(st.lists(texts, max_size=3)),
    }
)
functions = st.fixed_dictionaries({"name": texts, "description": options(texts), "parameters": options(parameters)})
tools = st.lists(st.tuples(st.just("function"), functions), max_size=2)


def biases(by_token: dict[int, int]) -> list[dict[str, int]]:
    return [{"token": token, "bias_micro": by_token[token]} for token in sorted(by_token)]


samplings = st.fixed_dictionaries(
    {
        "temperature_micro": options(st.integers(0, 2_000_000)),
        "top_p_micro": options(st.integers(1, 1_000_000)),
        "top_k": options(st.integers(1, 1 << 20)),
        "max_tokens": options(st.integers(1, 32_768)),
        "stop": options(st.lists(texts.filter(bool), max_size=4)),
        "seed": options(st.integers(0, 2**64 - 1)),
        "min_p_micro": options(st.integers(0, 1_000_000)),
        "repetition_penalty_micro": options(st.integers(100_000, 10_000_000)),
        "presence_penalty_micro": options(st.integers(-2_000_000, 2_000_000)),
        "frequency_penalty_micro": options(st.integers(-2_000_000, 2_000_000)),
        "logit_bias": options(
            st.dictionaries(st.integers(0, 2**20 - 1), st.integers(-100_000_000, 100_000_000), max_size=4).map(biases)
        ),
    }
)
schemas = st.fixed_dictionaries({"name": texts, "schema": texts})
formats = st.one_of(
    st.sampled_from([("text", None), ("json_object", None)]), st.tuples(st.just("json_schema"), schemas)
)
requests = st.fixed_dictionaries(
    {
        "model": models,
        "messages": st.lists(messages, min_size=1, max_size=4),
        "tools": options(tools),
        "sampling": options(samplings),
        "response_format": options(formats),
    }
)


def without_absent(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: without_absent(item) for name, item in value.items() if item is not None}
    if isinstance(value, list):
        return [without_absent(item) for item in value]
    return value


def payload_of(request: dict[str, Any]) -> bytes:
    """order.md O11, said again in Python."""
    spoken: dict[str, Any] = {
        "model": request["model"],
        "messages": [{"role": role, **body} for role, body in request["messages"]],
    }
    if request["tools"] is not None:
        spoken["tools"] = [function for _, function in request["tools"]]
    if request["sampling"] is not None:
        sampling = spoken["sampling"] = dict(request["sampling"])
        if sampling.get("logit_bias") is not None:
            sampling["logit_bias"] = [[each["token"], each["bias_micro"]] for each in sampling["logit_bias"]]
    if request["response_format"] is not None:
        form, schema = request["response_format"]
        spoken["response_format"] = {"type": form, **(schema or {})}
    return cbor.encode(without_absent(spoken))


@pytest.fixture(scope="module")
def long_lived() -> Gateway:
    return Bench().gateway


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(request=requests)
def test_a_plain_payload_is_one_encoding_of_the_request(long_lived: Gateway, request: dict[str, Any]) -> None:
    long_lived.submit_chat(ALICE, request)
    sealed = long_lived.seal_block(OWNER)
    assert sealed is not None
    (block,) = blocks_of(long_lived, sealed.height)
    payload = block.requests[0].payload.reveal()
    assert payload == payload_of(request)
    assert ChatRequest.decode(Prompt(payload), RAISED).encode() == payload


@pytest.mark.parametrize("size", [1, 23, 24, 55, 56, 63, 64, 255, 256, 65_535, 65_536, 131_072])
def test_every_length_head_and_hash_block_boundary(long_lived: Gateway, size: int) -> None:
    payload = bytes(at % 251 for at in range(size))
    long_lived.submit_sealed(BOB, payload)
    sealed = long_lived.seal_block(OWNER)
    assert sealed is not None
    (block,) = blocks_of(long_lived, sealed.height)  # refuses a wrong root
    assert block.requests[0].payload.reveal() == payload


@pytest.mark.parametrize("count", [1, 2, 3, 4, 5, 7, 8, 9, 31, 33, 255, 256])
def test_request_roots_of_every_shape(long_lived: Gateway, count: int) -> None:
    for number in range(count):
        long_lived.submit_sealed(caller(number), b"x")
    sealed = long_lived.seal_block(OWNER)
    assert sealed is not None
    assert len(blocks_of(long_lived, sealed.height)[0].requests) == count


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


# ---- the beacon


def test_prompts_are_fixed_before_the_beacon_is_drawn(bench: Bench) -> None:
    gateway = bench.gateway
    early = gateway.submit_sealed(ALICE, b"early")
    call = gateway.begin_seal(OWNER)
    late = gateway.submit_sealed(BOB, b"late")
    assert gateway.status()["fixed"] == 1
    bench.replica.settle()
    sealed = gateway.end_seal(call)
    assert sealed is not None
    assert sealed.count == 1
    assert gateway.take_answer(ALICE, early) == Position(1, 0, 0)
    assert gateway.take_answer(BOB, late) == Waiting()
    gateway.seal_block(OWNER)
    assert gateway.take_answer(BOB, late) == Position(2, 0, 1)


def test_the_beacon_is_the_subnets_and_new_in_each_block(bench: Bench) -> None:
    drawn: list[bytes] = []

    def randomness() -> bytes:
        drawn.append(bench.random.randbytes(32))
        return drawn[-1]

    bench.replica.network.randomness = randomness
    for number in range(3):
        bench.gateway.submit_sealed(caller(number), b"x")
        bench.gateway.seal_block(OWNER)
    assert [block.header.beacon for block in blocks_of(bench.gateway)] == drawn


def test_a_failed_draw_leaves_the_same_prompts_fixed(bench: Bench) -> None:
    gateway, replica = bench.gateway, bench.replica
    for number in range(3):
        gateway.submit_sealed(caller(number), b"kept %d" % number)
    call = gateway.begin_seal(OWNER)
    replica.deliver(replica.outstanding[0], Rejection(RejectCode.SYS_TRANSIENT, "no randomness"))
    with refused("beacon.unavailable"):
        gateway.end_seal(call)
    gateway.submit_sealed(STRANGER, b"later")
    assert replica.certified_data == certified_root(genesis(GATEWAY))

    gateway.upgrade()  # the fixed list survives this too
    gateway.seal_block(OWNER)
    (block,) = blocks_of(gateway)
    assert [request.payload.reveal() for request in block.requests] == [b"kept 0", b"kept 1", b"kept 2"]


def test_overlapping_draws_seal_one_block(bench: Bench) -> None:
    gateway, replica = bench.gateway, bench.replica
    gateway.submit_sealed(ALICE, b"x")
    calls = [gateway.begin_seal(OWNER) for _ in range(3)]
    last, first, failing = (replica.outstanding[at] for at in (2, 0, 1))
    replica.deliver(last)
    replica.deliver(failing, Rejection(RejectCode.SYS_TRANSIENT, "no randomness"))
    gateway.submit_sealed(BOB, b"y")
    replica.deliver(first)
    assert gateway.end_seal(calls[0]) == gateway.end_seal(calls[2])
    assert gateway.status()["head_height"] == 1
    assert gateway.status()["queued"] == 1


def test_a_beacon_of_the_wrong_size_seals_nothing(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    bench.gateway.submit_sealed(ALICE, b"x")
    call = bench.gateway.begin_seal(OWNER)
    short = b"DIDL\x01\x6d\x7b\x01\x00\x1f" + bytes(31)
    monkeypatch.setitem(management.METHODS, "raw_rand", lambda _: short)
    bench.replica.settle()
    with refused("beacon.size"):
        bench.gateway.end_seal(call)
    assert bench.gateway.status()["fixed"] == 1


def test_a_trap_after_the_draw_loses_nothing(bench: Bench) -> None:
    gateway, replica = bench.gateway, bench.replica
    gateway.submit_sealed(ALICE, b"x")
    call = gateway.begin_seal(OWNER)
    before, replica.canister.fuel_max = replica.canister.fuel_max, 2_000  # the callback runs out of instructions
    replica.settle()
    replica.canister.fuel_max = before
    with pytest.raises(Rejected):
        gateway.end_seal(call)
    assert replica.certified_data == certified_root(genesis(GATEWAY))
    sealed = gateway.seal_block(OWNER)
    assert sealed is not None
    assert (sealed.height, sealed.count) == (1, 1)


def test_an_empty_queue_seals_nothing_and_draws_nothing(bench: Bench) -> None:
    call = bench.gateway.begin_seal(OWNER)
    assert bench.replica.outstanding == ()
    assert bench.gateway.end_seal(call) is None


def test_only_reporters_and_controllers_seal(gateway: Gateway) -> None:
    gateway.submit_sealed(ALICE, b"x")
    with pytest.raises(Rejected, match="explicitly refused"):
        gateway.seal_block(ALICE)
    with refused("caller.not_allowed"):
        gateway.seal_block(canister(7))
    assert gateway.seal_block(REPORTER) is not None


def test_a_blocks_time_never_goes_back(bench: Bench) -> None:
    bench.gateway.submit_sealed(ALICE, b"x")
    bench.gateway.seal_block(OWNER)
    bench.clock.now_ns -= 10_000_000_000
    bench.gateway.submit_sealed(ALICE, b"x")
    bench.gateway.seal_block(OWNER)
    first, second = blocks_of(bench.gateway)
    assert second.header.time_ns == first.header.time_ns


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
