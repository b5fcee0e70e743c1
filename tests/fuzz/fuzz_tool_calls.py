"""Invariant: whatever a model says, it reads as calls of offered tools or as words, in every form, and nothing is
raised; calls that were read are a message that a request can hold.
"""

from __future__ import annotations

from appliance.text.tool_calls import Form, read_calls
from attestation.consensus.chat import ChatRequest, encode_message
from attestation.consensus.chat_limits import RAISED
from foundation import cbor
from foundation.secrecy import Prompt

SEEDS: list[bytes] = [
    b'<tool_call>\n{"name": "f", "arguments": {"a": "b", "c": [1, {"d": null}]}}\n</tool_call>',
    b'Yes. <tool_call>{"name":"f","arguments":{}}</tool_call><tool_call>{"arguments":{},"name":"g"}</tool_call>',
    b'{"name": "f", "parameters": {"a": "\\u65e5\\n", "b": 1.50}}; {"name": "g", "parameters": {}}',
    b'[{"name": "f", "arguments": {"a": true}}, {"name": "g", "arguments": {}}]',
    b"",
    b"words",
]


def one_input(data: bytes) -> None:
    for form in Form:
        message = read_calls(form, data.decode("utf-8", "replace"), frozenset({"f", "g"}), first=3)
        if message is None:
            continue
        assert {call.name.reveal() for call in message.tool_calls} <= {b"f", b"g"}
        value = cbor.decode(encode_message(message), cbor.Limits(bytes_max=1 << 20, depth_max=8, items_max=1 << 17))
        if all(len(call.arguments) <= RAISED.arguments for call in message.tool_calls):
            chat = ChatRequest.decode(Prompt(cbor.encode({"model": "m", "messages": [value]})), RAISED)
            assert chat.messages == (message,)
