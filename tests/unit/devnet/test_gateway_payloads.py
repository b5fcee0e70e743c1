"""The plain payload that a gateway makes of a request: one encoding, whatever the shape, at every length.

Held to order.md by the Python readers, which share no code with the canister.
"""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from attestation.consensus.chat import ChatRequest
from attestation.consensus.chat_limits import RAISED
from devnet.gateway import Gateway
from devnet.lone_gateway import OWNER
from foundation import cbor
from foundation.secrecy import Prompt
from tests.gateways import Bench, caller
from tests.unit.devnet.gateway_calls import ALICE, BOB, biases, blocks_of

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
