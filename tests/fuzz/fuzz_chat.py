"""Invariant: any bytes are a chat request that encodes back to them, or refused as `ChatRefused`."""

from __future__ import annotations

from attestation.consensus.chat import (
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
from attestation.consensus.chat_limits import RAISED
from foundation.secrecy import Prompt


def _text(text: str) -> Prompt:
    return Prompt(text.encode())


_CALL = ToolCall(_text("1"), _text("weather"), (Argument(_text("at"), _text("here")),))
_PROPERTY = Property(_text("string"), _text("at"), _text("where"), (_text("here"), _text("there")))
_TOOL = Tool(_text("weather"), _text("d"), Parameters(_text("object"), (_PROPERTY,), (_text("at"),)))

SEEDS: list[bytes] = [
    ChatRequest("llama3.1:8b", (UserMessage(_text("hello")),)).encode(),
    ChatRequest(
        "qwen3:32b",
        (
            SystemMessage(_text("be brief")),
            UserMessage(_text("weather?")),
            AssistantMessage(None, (_CALL,)),
            ToolMessage(_text("rain"), _text("1")),
            AssistantMessage(_text("rain"), ()),
        ),
        (_TOOL,),
        Sampling(
            700_000, 900_000, 40, 100, (_text("END"),), 7, 50_000, 1_100_000, -200_000, 300_000, ((3, -1), (9, 5))
        ),
        JsonSchema(_text("reply"), _text('{"type":"object"}')),
    ).encode(),
]


def one_input(data: bytes) -> None:
    try:
        request = ChatRequest.decode(Prompt(data), RAISED)
    except ChatRefused:
        return
    if request.encode() != data:
        raise AssertionError("a second encoding was accepted")
