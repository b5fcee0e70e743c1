"""What an engine is to the rest of the cell: token ids in, token ids out, one request at a time."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Protocol


@dataclass(frozen=True, slots=True)
class EngineRequest:
    """One request as an engine sees it. `seed` is all the randomness there is."""

    prompt: tuple[int, ...] = field(repr=False)
    max_tokens: int
    seed: bytes = field(repr=False)


class Engine(Protocol):
    """The same request gives the same tokens, whatever ran before."""

    @property
    def id(self) -> str: ...

    def run(self, request: EngineRequest) -> Iterator[int]:
        """The tokens of the answer, as they come; at most `max_tokens`."""
        ...
