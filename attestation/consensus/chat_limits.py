"""What one chat request may ask for, and what a cell takes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from foundation import limits as agreed


@dataclass(frozen=True, slots=True)
class ChatLimits:
    """What one request may ask for. Part of the engine profile, so measured; never a run-time choice."""

    payload_bytes: int
    messages: int
    text_bytes: int  # any one text: a message, an argument's value, a description
    tools: int
    properties: int  # of one tool; also its required names, and the values of one enum
    tool_calls: int  # of one message
    arguments: int  # of one call
    stops: int
    stop_bytes: int
    max_tokens: int
    logit_biases: int
    temperature_micro: int = agreed.TEMPERATURE_MICRO_MAX
    top_k: int = agreed.TOP_K_MAX
    items: int = 1 << 17  # CBOR items in all: what decoding may allocate


RAISED: Final = ChatLimits(
    payload_bytes=agreed.PAYLOAD_BYTES_MAX,
    messages=agreed.MESSAGES_MAX,
    text_bytes=agreed.PAYLOAD_BYTES_MAX,
    tools=agreed.TOOLS_MAX,
    properties=agreed.PROPERTIES_MAX,
    tool_calls=agreed.TOOL_CALLS_MAX,
    arguments=agreed.ARGUMENTS_MAX,
    stops=agreed.STOPS_MAX,
    stop_bytes=agreed.STOP_BYTES_MAX,
    max_tokens=agreed.TOKENS_MAX,
    logit_biases=agreed.LOGIT_BIASES_MAX,
)
"""What a cell takes, and the gateway with it: no request is ordered only to be refused for a limit."""
