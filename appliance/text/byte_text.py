"""Text without a model: for the scripted engine.

Tokens are the bytes of UTF-8. A message is one line: its role, a colon, its words with line breaks made spaces.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from appliance.text.listener import Listener
from attestation.consensus.chat import AssistantMessage, ChatRequest, Message, SystemMessage, ToolMessage, UserMessage

_PIECES: Final = tuple(bytes([byte]) for byte in range(256))


class ByteText:
    """For an engine whose tokens are bytes. Satisfies `appliance.text.Text`."""

    context_tokens: Final = 2 << 20
    stop_tokens: Final[frozenset[int]] = frozenset()

    def render(self, chat: ChatRequest) -> tuple[int, ...]:
        return render(chat)

    def listen(self, chat: ChatRequest) -> Listener:
        stops = chat.sampling.stop if chat.sampling and chat.sampling.stop else ()
        return Listener(_PIECES, [stop.reveal().decode() for stop in stops])


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
