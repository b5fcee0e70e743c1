"""From text to an engine's token ids, and back.

    text.render(chat)              -> prompt ids              raises PromptRefused, whose code is the answer
    room(text, prompt, asked, ...) -> how many tokens may follow
    text.listen(chat)              -> a Listener: tokens in, words out, then an End with the reason

`ModelText` is a model's own tokenizer and template out of its pack; `ByteText` needs no model. What neither does:
choose a token, know an order or a seal, or hold anything between two requests.
"""

from __future__ import annotations

from typing import Protocol

from appliance.text.byte_text import ByteText, pieces, render
from appliance.text.errors import ModelTextRefused, PromptRefused, TextRefused
from appliance.text.listener import End, Listener
from appliance.text.model_text import ModelText
from attestation.consensus.chat import ChatRequest
from attestation.receipts.outcome import Finish

__all__ = [
    "ByteText",
    "End",
    "Finish",
    "Listener",
    "ModelText",
    "ModelTextRefused",
    "PromptRefused",
    "Text",
    "TextRefused",
    "pieces",
    "render",
    "room",
]


class Text(Protocol):
    """The text side of whatever engine runs."""

    @property
    def context_tokens(self) -> int:
        """How many tokens a prompt and its answer may have together."""
        ...

    @property
    def stop_tokens(self) -> frozenset[int]: ...

    def render(self, chat: ChatRequest) -> tuple[int, ...]: ...

    def listen(self, chat: ChatRequest) -> Listener: ...


def room(text: Text, prompt: tuple[int, ...], asked: int | None, most: int) -> int:
    """How many tokens the answer may have: as many as asked for, or `most` as far as there is room (text.md L3)."""
    left = text.context_tokens - len(prompt)
    if left < (asked or 1):
        raise PromptRefused(
            "too-long",
            expected=f"a prompt and an answer of {text.context_tokens} tokens",
            got="a prompt without room for an answer",
        )
    return asked or min(most, left)
