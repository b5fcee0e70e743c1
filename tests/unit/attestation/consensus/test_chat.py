"""order.md O11 to O13: the plain payload, its limits, and one code for each fault."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from attestation.consensus.chat import (
    SEED_MAX,
    AnyForm,
    Argument,
    AssistantMessage,
    ChatRefused,
    ChatRequest,
    JsonSchema,
    Parameters,
    Property,
    Sampling,
    SystemMessage,
    Tool,
    ToolCall,
    ToolMessage,
    UserMessage,
)
from attestation.consensus.chat_limits import RAISED, ChatLimits
from foundation import cbor
from foundation.limits import MILLION
from foundation.secrecy import Prompt

texts = st.builds(lambda text: Prompt(text.encode()), st.text(max_size=12))
stops = st.builds(lambda text: Prompt(text.encode()), st.text(min_size=1, max_size=6))
models = st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E), min_size=1, max_size=20)
calls = st.builds(ToolCall, texts, texts, st.lists(st.builds(Argument, texts, texts), max_size=3).map(tuple))
messages = st.one_of(
    st.builds(UserMessage, texts),
    st.builds(SystemMessage, texts),
    st.builds(AssistantMessage, st.none() | texts, st.lists(calls, max_size=2).map(tuple)),
    st.builds(ToolMessage, texts, texts),
)
names = st.none() | st.lists(texts, max_size=3).map(tuple)
properties = st.builds(Property, texts, texts, st.none() | texts, names)
parameters = st.builds(Parameters, texts, st.none() | st.lists(properties, max_size=2).map(tuple), names)
tools = st.builds(Tool, texts, st.none() | texts, st.none() | parameters)
samplings = st.builds(
    Sampling,
    st.none() | st.integers(0, 2 * MILLION),
    st.none() | st.integers(1, MILLION),
    st.none() | st.integers(1, 1000),
    st.none() | st.integers(1, 1000),
    st.none() | st.lists(stops, max_size=3).map(tuple),
    st.none() | st.integers(0, SEED_MAX),
)
requests = st.builds(
    ChatRequest,
    models,
    st.lists(messages, min_size=1, max_size=4).map(tuple),
    st.none() | st.lists(tools, max_size=2).map(tuple),
    st.none() | samplings,
    st.none() | st.sampled_from(AnyForm) | st.builds(JsonSchema, texts, texts),
)


@given(requests)
def test_a_request_is_read_back_as_it_was_written(request: ChatRequest) -> None:
    assert ChatRequest.decode(Prompt(request.encode()), RAISED) == request


@given(st.binary(max_size=120))
def test_any_bytes_are_a_request_or_a_refusal(raw: bytes) -> None:
    try:
        request = ChatRequest.decode(Prompt(raw), RAISED)
    except ChatRefused:
        return
    assert request.encode() == raw


def simple() -> dict[str, Any]:
    """A request with every field there is, as plain values."""
    return {
        "model": "llama3.1:8b",
        "messages": [
            {"role": "system", "content": "be brief"},
            {"role": "user", "content": "weather?"},
            {
                "role": "assistant",
                "content": "looking",
                "tool_calls": [{"id": "1", "function": {"name": "w", "arguments": [{"name": "at", "value": "here"}]}}],
            },
            {"role": "tool", "content": "rain", "tool_call_id": "1"},
        ],
        "tools": [
            {
                "name": "w",
                "description": "the weather",
                "parameters": {
                    "type": "object",
                    "properties": [{"type": "string", "name": "at", "description": "d", "enum": ["here"]}],
                    "required": ["at"],
                },
            }
        ],
        "sampling": {
            "temperature_micro": 700_000,
            "top_p_micro": 900_000,
            "top_k": 40,
            "max_tokens": 100,
            "stop": ["END"],
            "seed": 7,
            "min_p_micro": 50_000,
            "repetition_penalty_micro": 1_100_000,
            "presence_penalty_micro": -200_000,
            "frequency_penalty_micro": 300_000,
            "logit_bias": [[3, -100_000_000], [9, 5]],
        },
    }


def decode(value: Any, limits: ChatLimits = RAISED) -> ChatRequest:
    return ChatRequest.decode(Prompt(cbor.encode(value)), limits)


def refusal(value: Any, limits: ChatLimits = RAISED) -> ChatRefused:
    with pytest.raises(ChatRefused) as refused:
        decode(value, limits)
    return refused.value


def test_every_field_arrives() -> None:
    request = decode(simple())
    assert request.model == "llama3.1:8b"
    system, user, assistant, tool = request.messages
    assert isinstance(system, SystemMessage)
    assert isinstance(user, UserMessage)
    assert isinstance(assistant, AssistantMessage)
    assert assistant.tool_calls[0].arguments[0].value.reveal() == b"here"
    assert isinstance(tool, ToolMessage)
    assert tool.content.reveal() == b"rain"
    assert request.tools is not None
    assert request.tools[0].parameters is not None
    assert request.tools[0].parameters.required == (Prompt(b"at"),)
    assert request.sampling == Sampling(
        700_000,
        900_000,
        40,
        100,
        (Prompt(b"END"),),
        7,
        50_000,
        1_100_000,
        -200_000,
        300_000,
        ((3, -100_000_000), (9, 5)),
    )


def changed(path: tuple[Any, ...], value: Any) -> dict[str, Any]:
    """The request above with one value put in place; `...` takes it away."""
    whole = simple()
    inner: Any = whole
    for step in path[:-1]:
        inner = inner[step]
    if value is ...:
        del inner[path[-1]]
    else:
        inner[path[-1]] = value
    return whole


TOOL = ("tools", 0)
PARAMETERS = (*TOOL, "parameters")
CALL = ("messages", 2, "tool_calls", 0)


@pytest.mark.parametrize(
    ("path", "value", "code"),
    [
        (("model",), ..., "request"),
        (("messages",), ..., "request"),
        (("other",), 1, "request"),
        (("model",), "", "model"),
        (("model",), "m" * 129, "model"),
        (("model",), "a b", "model"),
        (("model",), "modèle", "model"),
        (("model",), b"m", "model"),
        (("messages",), [], "messages"),
        (("messages",), {}, "messages"),
        (("messages", 0), "hello", "role"),
        (("messages", 0, "role"), "developer", "role"),
        (("messages", 0, "role"), ..., "role"),
        (("messages", 0, "content"), ..., "message"),
        (("messages", 0, "content"), b"bytes", "text"),
        (("messages", 0, "content"), None, "text"),
        (("messages", 0, "tool_calls"), [], "message"),
        (("messages", 2, "tool_calls"), ..., "message"),
        (("messages", 2, "content"), None, "text"),
        (("messages", 3, "tool_call_id"), ..., "message"),
        ((*CALL, "id"), 1, "text"),
        (CALL, [], "tool-call"),
        ((*CALL, "function"), "w", "function"),
        ((*CALL, "function", "arguments"), {}, "arguments"),
        ((*CALL, "function", "arguments", 0, "value"), ..., "argument"),
        (("tools",), None, "tools"),
        (TOOL, 3, "tool"),
        ((*TOOL, "strict"), True, "tool"),
        (PARAMETERS, [], "parameters"),
        ((*PARAMETERS, "type"), ..., "parameters"),
        ((*PARAMETERS, "properties"), {}, "properties"),
        ((*PARAMETERS, "properties", 0, "name"), ..., "property"),
        ((*PARAMETERS, "required"), "at", "names"),
        (("response_format",), "text", "response-format"),
        (("response_format",), {"type": "xml"}, "response-format"),
        (("response_format",), {"type": "text", "schema": "{}"}, "response-format"),
        (("response_format",), {"type": "json_schema", "name": "n"}, "response-format"),
        (("response_format",), {"type": "json_schema", "name": "n", "schema": {}}, "text"),
        (("sampling",), [], "sampling"),
        (("sampling", "top_a"), 1, "sampling"),
        (("sampling", "temperature_micro"), 2 * MILLION + 1, "temperature-micro"),
        (("sampling", "temperature_micro"), -1, "temperature-micro"),
        (("sampling", "temperature_micro"), True, "temperature-micro"),
        (("sampling", "top_p_micro"), 0, "top-p-micro"),
        (("sampling", "top_p_micro"), MILLION + 1, "top-p-micro"),
        (("sampling", "top_k"), 0, "top-k"),
        (("sampling", "max_tokens"), 0, "max-tokens"),
        (("sampling", "max_tokens"), "1", "max-tokens"),
        (("sampling", "stop"), "END", "stop"),
        (("sampling", "stop"), [""], "stop"),
        (("sampling", "stop"), [1], "text"),
        (("sampling", "seed"), -1, "seed"),
        (("sampling", "min_p_micro"), -1, "min-p-micro"),
        (("sampling", "min_p_micro"), MILLION + 1, "min-p-micro"),
        (("sampling", "repetition_penalty_micro"), MILLION // 10 - 1, "repetition-penalty-micro"),
        (("sampling", "repetition_penalty_micro"), 10 * MILLION + 1, "repetition-penalty-micro"),
        (("sampling", "presence_penalty_micro"), -2 * MILLION - 1, "presence-penalty-micro"),
        (("sampling", "frequency_penalty_micro"), 2 * MILLION + 1, "frequency-penalty-micro"),
        (("sampling", "frequency_penalty_micro"), False, "frequency-penalty-micro"),
        (("sampling", "logit_bias"), {}, "logit-bias"),
        (("sampling", "logit_bias"), [[1, 2], [1, 2]], "logit-bias"),
        (("sampling", "logit_bias"), [[2, 0], [1, 0]], "logit-bias"),
        (("sampling", "logit_bias"), [[1]], "logit-bias"),
        (("sampling", "logit_bias"), [[1, 2, 3]], "logit-bias"),
        (("sampling", "logit_bias"), [[True, 0]], "logit-bias"),
        (("sampling", "logit_bias"), [[1 << 20, 0]], "logit-bias"),
        (("sampling", "logit_bias"), [[-1, 0]], "logit-bias"),
        (("sampling", "logit_bias"), [[1, 100 * MILLION + 1]], "logit-bias"),
        (("sampling", "logit_bias"), [[1, -100 * MILLION - 1]], "logit-bias"),
    ],
)
def test_each_fault_has_its_code(path: tuple[Any, ...], value: Any, code: str) -> None:
    # order.md O11
    assert refusal(changed(path, value)).code == f"chat.{code}"


@pytest.mark.parametrize(
    ("limits", "code"),
    [
        (replace(RAISED, payload_bytes=64), "payload-size"),
        (replace(RAISED, items=10), "encoding"),
        (replace(RAISED, messages=3), "messages"),
        (replace(RAISED, text_bytes=7), "text-size"),
        (replace(RAISED, tools=0), "tools"),
        (replace(RAISED, properties=0), "properties"),
        (replace(RAISED, tool_calls=0), "tool-calls"),
        (replace(RAISED, arguments=0), "arguments"),
        (replace(RAISED, stops=0), "stop"),
        (replace(RAISED, logit_biases=1), "logit-bias"),
        (replace(RAISED, stop_bytes=2), "text-size"),
        (replace(RAISED, max_tokens=99), "max-tokens"),
        (replace(RAISED, temperature_micro=0), "temperature-micro"),
        (replace(RAISED, top_k=39), "top-k"),
    ],
)
def test_each_limit_has_its_code(limits: ChatLimits, code: str) -> None:
    # order.md O12
    assert refusal(simple(), limits).code == f"chat.{code}"


LLM_CANISTER = ChatLimits(  # what the IC's own LLM canister takes, as far as it states it
    payload_bytes=16 << 10,
    messages=10,
    text_bytes=10 << 10,
    tools=16,
    properties=16,
    tool_calls=16,
    arguments=16,
    stops=0,
    stop_bytes=0,
    max_tokens=1000,
    logit_biases=0,
)


def test_the_limits_of_the_canister_we_follow_hold_here_too() -> None:
    ten = {"model": "qwen3:32b", "messages": [{"role": "user", "content": "hi"}] * 10}
    assert len(decode(ten, LLM_CANISTER).messages) == 10
    ten["messages"] = [{"role": "user", "content": "hi"}] * 11
    assert refusal(ten, LLM_CANISTER).code == "chat.messages"


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        cbor.encode(simple()) + b"\x00",
        cbor.encode(simple()).replace(b"\x65model", b"\x78\x05model", 1),
        b"\xa1\x65model\xf9\x00\x00",
        b"\xa2\x65model\x61m\x65model\x61m",
        cbor.encode([[[[[[[[[]]]]]]]]]),
    ],
    ids=["empty", "trailing", "longer form", "a float", "a key twice", "too deep"],
)
def test_what_is_no_deterministic_cbor_has_one_code(raw: bytes) -> None:
    # order.md O13: which fault a decoder meets first is not part of a receipt.
    with pytest.raises(ChatRefused) as refused:
        ChatRequest.decode(Prompt(raw), RAISED)
    assert refused.value.code == "chat.encoding"


@pytest.mark.parametrize(
    ("first", "second", "code"),
    [
        ((("other",), 1), (("model",), ""), "request"),
        ((("model",), ""), (("messages",), []), "model"),
        ((("messages", 3, "content"), 1), (("tools",), None), "text"),
        (((*TOOL, "name"), 1), (("sampling", "seed"), -1), "text"),
        ((("messages", 2, "content"), 1), (("messages", 2, "tool_calls"), {}), "text"),
        ((("sampling", "top_k"), 0), (("sampling", "stop"), [""]), "top-k"),
    ],
)
def test_of_two_faults_the_first_in_the_stated_order_is_named(
    first: tuple[tuple[Any, ...], Any], second: tuple[tuple[Any, ...], Any], code: str
) -> None:
    # order.md O13
    value = changed(*first)
    inner: Any = value
    *steps, last = second[0]
    for step in steps:
        inner = inner[step]
    inner[last] = second[1]
    assert refusal(value).code == f"chat.{code}"


@given(st.sampled_from(["model", "messages", "tools", "sampling"]), st.text("ß☂", min_size=3, max_size=9))
def test_no_refusal_and_no_rendering_carries_a_word_of_the_request(field: str, secret: str) -> None:
    for value in (secret, [secret], {secret: 1}, [{"role": secret}], [{"role": "user", "content": [secret]}]):
        said = refusal(changed((field,), value))
        assert secret not in f"{said} {said!r} {said.args} {said.__cause__}"
    shown = decode(changed(("messages", 0, "content"), secret))
    assert secret not in f"{shown} {shown!r}"
    assert "be brief" not in repr(decode(simple()))
