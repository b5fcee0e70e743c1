"""What answers: an engine that knows tokens, and the words that go in and come out of it.

A `Script` is one model's way with words: its template, its tokenizer, its stop tokens. It is pure and the same on every
cell; what it refuses is refused with a code that is ordered and signed like any other.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Protocol, TypeAlias

from appliance.engine.protocol import Engine, Sampling
from appliance.text import Finish, Listener, Text, render, room
from attestation.consensus.chat import ChatRequest
from foundation.digests import DIGEST_BYTES
from measurements.pack.opening import OpenedPack

NO_PROFILE: Final = bytes(DIGEST_BYTES)


class Speaker(Protocol):
    """One answer, from tokens to the bytes people read."""

    @property
    def done(self) -> bool:
        """A stop text was said: no further token is asked for."""

    @property
    def calls_tools(self) -> bool:
        """What was said, to its end, asks for tools to be called."""

    def hear(self, token: int) -> bytes:
        """The bytes that are certain with this token; perhaps none yet."""

    def end(self, *, full: bool) -> bytes:
        """What was held back, once there are no more tokens; `full` if there were as many as asked for."""


class Script(Protocol):
    """Chat requests in, token ids and a speaker out."""

    @property
    def sampling(self) -> Sampling:
        """What holds where a request says nothing."""

    @property
    def stop_tokens(self) -> frozenset[int]: ...

    def prompt(self, chat: ChatRequest) -> tuple[int, ...]:
        """Raises `Refused` for a request that cannot become a prompt of this model."""

    def room(self, prompt: tuple[int, ...], asked: int | None, most: int) -> int:
        """How many tokens the answer may have: as many as asked for, or at most `most`. Raises `Refused` for none."""

    def speaker(self, chat: ChatRequest) -> Speaker: ...


@dataclass(frozen=True, slots=True)
class Mind:
    """An engine, its words, and the digest of the profile it was started under."""

    engine: Engine
    script: Script
    profile: bytes = NO_PROFILE


MakeMind: TypeAlias = Callable[[OpenedPack | None], Mind]
"""Of the model that was released, or of none in a cell that asks for none. Raises `Refused` on any drift."""


class ByteSpeaker:
    """Tokens are bytes. Raises ValueError for one that is not: an engine's nonsense is no answer (window.md N15)."""

    done: Final = False
    calls_tools: Final = False

    def hear(self, token: int) -> bytes:
        return bytes((token,))

    def end(self, *, full: bool) -> bytes:  # noqa: ARG002  # nothing is ever held back
        return b""


class ByteScript:
    """For engines without a model: `appliance.text` as it stands."""

    sampling: Final = Sampling()
    stop_tokens: Final[frozenset[int]] = frozenset()

    def prompt(self, chat: ChatRequest) -> tuple[int, ...]:
        return render(chat)

    def room(self, prompt: tuple[int, ...], asked: int | None, most: int) -> int:  # noqa: ARG002  # bytes have no end
        return asked or most

    def speaker(self, chat: ChatRequest) -> Speaker:  # noqa: ARG002  # bytes are bytes, whatever was asked
        return ByteSpeaker()


class ModelSpeaker:
    """What a model's own tokenizer makes of tokens (text.md L11 to L16)."""

    def __init__(self, listener: Listener) -> None:
        self._listener: Final = listener
        self.calls_tools = False

    @property
    def done(self) -> bool:
        return self._listener.stopped

    def hear(self, token: int) -> bytes:
        return self._listener.hear(token)

    def end(self, *, full: bool) -> bytes:
        end = self._listener.end(full=full)
        self.calls_tools = end.finish is Finish.TOOL_CALLS
        return end.words


@dataclass(frozen=True, slots=True)
class ModelScript:
    """A model's own template and tokenizer, with the sampling its profile states."""

    text: Text
    sampling: Sampling

    @property
    def stop_tokens(self) -> frozenset[int]:
        return self.text.stop_tokens

    def prompt(self, chat: ChatRequest) -> tuple[int, ...]:
        return self.text.render(chat)

    def room(self, prompt: tuple[int, ...], asked: int | None, most: int) -> int:
        return room(self.text, prompt, asked, most)

    def speaker(self, chat: ChatRequest) -> Speaker:
        return ModelSpeaker(self.text.listen(chat))
