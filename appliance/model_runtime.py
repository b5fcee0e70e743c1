"""What computes an answer: an engine that knows tokens, and the text processing before and after it.

A `Script` is the text processing of one model: its template, its tokenizer, its stop tokens. It is pure and the same on
every cell. Its refusals have a code that is ordered and signed like any other.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Protocol, TypeAlias

from appliance.engine.errors import EngineFault
from appliance.engine.protocol import Engine, Sampling
from appliance.text import End, Finish, Text, render, room
from attestation.consensus.chat import ChatRequest
from foundation.digests import DIGEST_BYTES
from measurements.pack.pack_reader import OpenedPack

NO_PROFILE: Final = bytes(DIGEST_BYTES)


class Speaker(Protocol):
    """One answer, from tokens to the bytes people read."""

    @property
    def stopped(self) -> bool:
        """A stop text came, or more words than an answer may have: no further token is asked for."""

    def feed(self, token: int) -> bytes:
        """The bytes that are certain with this token; perhaps none yet."""

    def end(self, *, full: bool) -> End:
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
class ModelRuntime:
    """An engine, its text processing, the digest of its profile, and how many golden prompts it passed."""

    engine: Engine
    script: Script
    profile: bytes = NO_PROFILE
    golden: int = 0


StartRuntime: TypeAlias = Callable[[OpenedPack | None], ModelRuntime]
"""Of the model that was released, or of none in a cell that asks for none. Raises `Refused` on any drift."""


class ByteSpeaker:
    """Tokens are bytes. Raises `EngineFault` for one that is not: an engine's nonsense is no answer (window.md N15)."""

    stopped: Final = False

    def feed(self, token: int) -> bytes:
        if not 0 <= token < 256:
            raise EngineFault("a token that is no byte")
        return bytes((token,))

    def end(self, *, full: bool) -> End:
        return End(b"", Finish.LENGTH if full else Finish.STOP)


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
        return self.text.listen(chat)
