"""Between people's words and an engine's token ids, until a model brings its own tokenizer and template.

Tokens are the bytes of UTF-8. A message is one line: its role, a colon, its words with line breaks made spaces.
"""

from __future__ import annotations

from collections.abc import Iterator

from attestation.consensus.chat import (
    AssistantMessage,
    ChatRequest,
    Message,
    SystemMessage,
    ToolMessage,
    UserMessage,
)


def render(request: ChatRequest) -> tuple[int, ...]:
    """The prompt's token ids."""
    return tuple(b"".join(_line(message) for message in request.messages))


def _line(message: Message) -> bytes:
    match message:
        case UserMessage(content):
            return b"user:" + _flat(content.reveal())
        case SystemMessage(content):
            return b"system:" + _flat(content.reveal())
        case AssistantMessage(content, _):
            return b"assistant:" + _flat(content.reveal() if content else b"")
        case ToolMessage(content, _):
            return b"tool:" + _flat(content.reveal())


def _flat(words: bytes) -> bytes:
    return b" ".join(words.splitlines()) + b"\n"


def pieces(tokens: Iterator[int], piece_tokens: int) -> Iterator[tuple[bytes, int]]:
    """The answer's bytes in pieces of `piece_tokens` tokens, each with the number of tokens in it."""
    piece = bytearray()
    for token in tokens:
        piece.append(token)
        if len(piece) == piece_tokens:
            yield bytes(piece), len(piece)
            piece.clear()
    if piece:
        yield bytes(piece), len(piece)
