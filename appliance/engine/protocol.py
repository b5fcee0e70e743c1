"""What an engine is to the rest of the cell: token ids in, token ids out, one request at a time.

Text, templates and stop sequences of text belong to `appliance.text`; order, seals and receipts to others. All that an
engine knows of a request is in `EngineRequest`, and the same request gives the same steps, whatever ran before.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final, Protocol

MICRO: Final = 1_000_000
SEED_BYTES: Final = 32


@dataclass(frozen=True, slots=True)
class Sampling:
    """How a token is chosen from logits (docs/spec/sampling.md). Millionths throughout: no float crosses a border."""

    temperature_micro: int = 0  # 0: the greatest logit
    top_k: int = 0  # 0: every token
    top_p_micro: int = MICRO
    min_p_micro: int = 0
    repetition_penalty_micro: int = MICRO  # 1: none
    presence_penalty_micro: int = 0
    frequency_penalty_micro: int = 0
    logit_bias: tuple[tuple[int, int], ...] = ()  # (token, millionths), tokens ascending


@dataclass(frozen=True, slots=True)
class EngineRequest:
    """One request as an engine sees it. `seed` is all the randomness there is."""

    prompt: tuple[int, ...] = field(repr=False)
    max_tokens: int
    seed: bytes = field(repr=False)
    sampling: Sampling = Sampling()
    stop_tokens: frozenset[int] = frozenset()  # any of these ends the answer and is not part of it
    # Requests of the same scope, if they name one, may share the work of a prefix they have in common. It changes no
    # bit, but the time it saves tells that there was one: strangers never share a scope.
    scope: bytes = field(default=b"", repr=False)


@dataclass(frozen=True, slots=True)
class Step:
    """One token of an answer, and the digest of the whole way to it."""

    token: int = field(repr=False)
    trace: bytes = field(repr=False)


class Engine(Protocol):
    """The same request gives the same steps, whatever ran before, was cancelled or failed."""

    @property
    def id(self) -> str: ...

    @property
    def fingerprint(self) -> bytes:
        """The digest of everything this engine observed of itself that can change a bit (engine.md)."""
        ...

    def run(self, request: EngineRequest) -> Iterator[Step]:
        """The answer's tokens as they come, at most `max_tokens`; a close in the middle disturbs nothing after it."""
        ...
