"""text.md L17 to L19: tool calls, as three families write them, back into those of v1_chat."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.text import Finish, ModelText
from appliance.text.scanning import DEPTH_MAX
from appliance.text.tool_calls import CALLS_MAX, Form, read_calls
from attestation.consensus.chat import (
    Argument,
    AssistantMessage,
    ChatRequest,
    Tool,
    ToolCall,
    UserMessage,
    encode_message,
)
from attestation.consensus.chat_limits import RAISED
from foundation import cbor
from foundation.secrecy import Prompt
from tests.little_text import files, tokenizer

OFFERED = frozenset({"weather", "time"})


def read(form: Form, words: str) -> tuple[str | None, list[tuple[str, dict[str, str]]]] | None:
    message = read_calls(form, words, OFFERED, first=0)
    if message is None:
        return None
    content = message.content.reveal().decode() if message.content else None
    return content, [
        (call.name.reveal().decode(), {a.name.reveal().decode(): a.value.reveal().decode() for a in call.arguments})
        for call in message.tool_calls
    ]


CITY = {"city": "Lisbon"}


@pytest.mark.parametrize(
    ("form", "words", "calls"),
    [  # text.md L17, L18
        (
            Form.HERMES,
            '<tool_call>\n{"name": "weather", "arguments": {"city": "Lisbon"}}\n</tool_call>',
            (None, [("weather", CITY)]),
        ),
        (
            Form.HERMES,
            (
                'Let me see.\n<tool_call>{"arguments": {}, "name": "time"}</tool_call>\n'
                '<tool_call>{"name":"weather","arguments":{"city":"Lisbon"}}</tool_call> '
            ),
            ("Let me see.", [("time", {}), ("weather", CITY)]),
        ),
        (Form.LLAMA, ' {"name": "weather", "parameters": {"city": "Lisbon"}} ', (None, [("weather", CITY)])),
        (
            Form.LLAMA,
            '{"name": "time", "parameters": {}}; {"name": "time", "parameters": {}}',
            (None, [("time", {}), ("time", {})]),
        ),
        (
            Form.MISTRAL,
            ' [{"name": "weather", "arguments": {"city": "Lisbon"}}, {"name":"time","arguments":{}}]',
            (None, [("weather", CITY), ("time", {})]),
        ),
        (
            Form.LLAMA,
            '{"name":"time","parameters":{"a":1.50,"b":[1, {"c":null}],"d":true,"e":"x\\n\\u65e5","f":1e400}}',
            (None, [("time", {"a": "1.50", "b": '[1, {"c":null}]', "d": "true", "e": "x\n日", "f": "1e400"})]),
        ),
    ],
)
def test_calls_of_each_family(
    form: Form, words: str, calls: tuple[str | None, list[tuple[str, dict[str, str]]]]
) -> None:
    assert read(form, words) == calls


@pytest.mark.parametrize(
    ("form", "words"),
    [  # text.md L17: words they stay
        (Form.HERMES, "no call at all"),
        (Form.HERMES, '<tool_call>{"name": "weather", "arguments": {}}'),
        (Form.HERMES, '<tool_call>{"name": "weather", "arguments": {}}</tool_call> and more'),
        (Form.HERMES, '<tool_call>{"name": "weather", "arguments": {}}</tool_call>x<tool_call>{}</tool_call>'),
        (Form.HERMES, '<tool_call>{"name": "rob", "arguments": {}}</tool_call>'),
        (
            Form.HERMES,
            (
                '<tool_call>{"name": "time", "arguments": {}}</tool_call>'
                '<tool_call>{"name": "rob", "arguments": {}}</tool_call>'
            ),
        ),
        (Form.HERMES, '<tool_call>{"name": "time", "arguments": {}, "more": 1}</tool_call>'),
        (Form.HERMES, '<tool_call>{"name": "time"}</tool_call>'),
        (Form.HERMES, '<tool_call>{"name": "time", "parameters": {}}</tool_call>'),
        (Form.HERMES, '<tool_call>{"name": "time", "name": "time", "arguments": {}}</tool_call>'),
        (Form.LLAMA, '{"name": "time", "parameters": {"a": 1, "a": 2}}'),
        (Form.LLAMA, '{"name": "time", "parameters": {"a": NaN}}'),
        (Form.LLAMA, '{"name": "time", "parameters": {"a": }}'),
        (Form.LLAMA, '{"name": "time", "parameters": {"a": 1,}}'),
        (Form.LLAMA, '{"name": "time", "parameters": {"a" 1}}'),
        (Form.LLAMA, '{"name": "time", "parameters": "{}"}'),
        (Form.LLAMA, '{"name": 5, "parameters": {}}'),
        (Form.LLAMA, '{"name": "time", "parameters": {"a": "\\ud800"}}'),
        (Form.LLAMA, '{"name": "time", "parameters": {"\\ud800": 1}}'),
        (Form.HERMES, '<tool_call>{"name": "time", "arguments": {"a": 1, "x\\udfff": "y"}}</tool_call>'),
        (Form.MISTRAL, '[{"name": "time", "arguments": {"\\ude00\\ud83d": 1}}]'),
        (Form.MISTRAL, '[{"name": "time\\ud800", "arguments": {}}]'),
        (Form.LLAMA, '{"\\ud800": "time", "parameters": {}}'),
        (Form.LLAMA, '{"name": "time", "parameters": {}} {"name": "time", "parameters": {}}'),
        (Form.LLAMA, '{"name": "time", "parameters": {"a": ' + "[" * DEPTH_MAX + "]" * DEPTH_MAX + "}}"),
        (Form.LLAMA, '{"name": "time", "parameters": {"a": ' + "[" * 100_000),
        (Form.LLAMA, "; ".join(['{"name": "time", "parameters": {}}'] * (CALLS_MAX + 1))),
        (Form.LLAMA, ""),
        (Form.MISTRAL, '{"name": "time", "arguments": {}}'),
        (Form.MISTRAL, "[]"),
        (Form.MISTRAL, '[{"name": "time", "arguments": {}}'),
    ],
)
def test_what_is_no_call_is_words(form: Form, words: str) -> None:
    assert read(form, words) is None


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=6,
)


@given(arguments=st.dictionaries(st.text(max_size=4), JSON, max_size=4), spaced=st.booleans())
def test_every_value_comes_back_as_it_was_written(arguments: dict[str, object], spaced: bool) -> None:  # text.md L18
    written = json.dumps({"name": "time", "parameters": arguments}, indent=2 if spaced else None)
    found = read(Form.LLAMA, written)
    assert found is not None
    values = found[1][0][1]
    assert set(values) == set(arguments)
    for name, value in arguments.items():
        assert values[name] == value if isinstance(value, str) else json.loads(values[name]) == value


def test_an_answer_with_tools_is_whole_and_its_calls_are_a_message() -> None:  # text.md L19
    text, made = ModelText.of(files("chatml"), context_tokens=4096), tokenizer("chatml")
    tool = Tool(Prompt(b"weather"), None, None)
    before = AssistantMessage(None, (ToolCall(Prompt(b"call00000"), Prompt(b"weather"), ()),))
    chat = ChatRequest("m", (UserMessage(Prompt(b"?")), before, UserMessage(Prompt(b"?"))), (tool,))
    words = 'Wait.\n<tool_call>\n{"name": "weather", "arguments": {"city": "Lisbon"}}\n</tool_call>'
    listener = text.listen(chat)
    assert {listener.feed(token) for token in made.encode(words).ids} == {b""}
    end = listener.end(full=False)
    call = ToolCall(Prompt(b"call00001"), Prompt(b"weather"), (Argument(Prompt(b"city"), Prompt(b"Lisbon")),))
    message = AssistantMessage(Prompt(b"Wait."), (call,))
    assert (end.finish, end.words) == (Finish.TOOL_CALLS, encode_message(message))
    # It can be handed back as it is: one message of a request.
    value = cbor.decode(end.words, cbor.Limits(bytes_max=1000, depth_max=8, items_max=100))
    payload = cbor.encode({"model": "m", "messages": [value]})
    assert ChatRequest.decode(Prompt(payload), RAISED).messages == (message,)


@pytest.mark.parametrize(
    ("words", "full", "finish"),
    [  # text.md L19
        ("just words", False, Finish.STOP),
        ("<tool_call>{", True, Finish.LENGTH),
        ('<tool_call>{"name": "weather", "arguments": {}}</tool_call>', True, Finish.LENGTH),
    ],
)
def test_an_answer_with_tools_that_calls_none_is_its_words(words: str, full: bool, finish: Finish) -> None:
    text = ModelText.of(files("chatml"), context_tokens=4096)
    listener = text.listen(ChatRequest("m", (UserMessage(Prompt(b"?")),), (Tool(Prompt(b"weather"), None, None),)))
    for token in tokenizer("chatml").encode(words).ids:
        assert listener.feed(token) == b""
    end = listener.end(full=full)
    assert (end.words, end.finish) == (words.encode(), finish)
