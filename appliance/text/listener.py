"""Turns an engine's tokens into text that can be sent at once, and gives the reason why the answer ended.

    listener = text.listen(chat)
    for step in steps:
        say(listener.feed(step.token))
        if listener.stopped:
            break                           # and close the engine's iterator
    end = listener.end(full=listener.tokens == asked)

What is said never holds a piece of a character or of a stop text, and what all calls say together depends on the bytes
of the tokens alone, however these were cut into tokens (text.md L11 to L16, L30).
"""

from __future__ import annotations

import codecs
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final

from attestation.consensus.chat import AssistantMessage, encode_message
from attestation.receipts.outcome import Finish
from foundation.limits import WORDS_BYTES_MAX


@dataclass(frozen=True, slots=True)
class End:
    """The last words, and why they are the last."""

    words: bytes = field(repr=False)
    finish: Finish


class Listener:
    """Of one answer. `read_calls` is given where tools were offered: then nothing is said before the end."""

    def __init__(
        self,
        pieces: Sequence[bytes],
        stops: Sequence[str],
        *,
        strips_first_space: bool = False,
        read_calls: Callable[[str], AssistantMessage | None] | None = None,
        bytes_max: int = WORDS_BYTES_MAX,
    ) -> None:
        self._pieces: Final = pieces
        self._stops: Final = tuple(stops)
        self._read_calls: Final = read_calls
        self._decoder: Final = codecs.getincrementaldecoder("utf-8")("replace")
        self._strips = strips_first_space
        self._waiting = ""  # may be the beginning of a stop text
        self._kept = bytearray()  # all words, where they may turn out to be calls
        self._bytes_max: Final = bytes_max
        self._room = bytes_max  # bytes that may still be said
        self._is_cut = False  # there were more words than that
        self.tokens = 0
        self.stopped = False

    def feed(self, token: int) -> bytes:
        """One more token. A token that the tokenizer does not have says nothing."""
        self.tokens += 1
        raw = self._pieces[token] if 0 <= token < len(self._pieces) else b""
        return self._say(self._decoder.decode(raw))

    def end(self, *, full: bool) -> End:
        """No more tokens; `full` if the engine gave as many as were asked for. Once."""
        words = b"" if self.stopped else self._say(self._decoder.decode(b"", final=True))
        words += self._let_go(self._waiting)
        finish = Finish.LENGTH if self._is_cut or (full and not self.stopped) else Finish.STOP
        if self._read_calls is None:
            return End(words, finish)
        message = self._read_calls(self._kept.decode()) if finish is Finish.STOP else None
        if message is None:
            return End(bytes(self._kept), finish)
        raw = encode_message(message)
        if len(raw) > self._bytes_max:
            return End(bytes(self._kept), Finish.LENGTH)
        return End(raw, Finish.TOOL_CALLS)

    def _say(self, text: str) -> bytes:
        if self.stopped or not text:
            return b""
        if self._strips:
            self._strips = False
            text = text.removeprefix(" ")
        self._waiting += text
        if (cut := self._cut()) is not None:
            self.stopped = True
            said, self._waiting = self._waiting[:cut], ""
        else:
            keep = self._keep()
            said, self._waiting = self._waiting[: len(self._waiting) - keep], self._waiting[len(self._waiting) - keep :]
        return self._let_go(said)

    def _let_go(self, text: str) -> bytes:
        words = text.encode()
        if len(words) > self._room:
            words = words[: self._room].decode(errors="ignore").encode()  # up to the last whole character
            self.stopped = self._is_cut = True
            self._waiting = ""
        self._room -= len(words)
        if self._read_calls is not None:
            self._kept += words
            return b""
        return words

    def _cut(self) -> int | None:
        """Where the stop text begins that is complete first; of two, the longer."""
        found = [(at + len(stop), at) for stop in self._stops if (at := self._waiting.find(stop)) >= 0]
        return min(found)[1] if found else None

    def _keep(self) -> int:
        """How many of the last characters may begin a stop text."""
        return max((_overlap(self._waiting, stop) for stop in self._stops), default=0)


def _overlap(text: str, stop: str) -> int:
    """The longest end of `text` that `stop` begins with, `stop` itself aside."""
    for size in range(min(len(text), len(stop) - 1), 0, -1):
        if text.endswith(stop[:size]):
            return size
    return 0
