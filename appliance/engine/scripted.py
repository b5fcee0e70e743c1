"""An engine that says what its script says. For everything that must be tried without a model.

Its tokens are bytes. It opens with a line its seed chooses and then says the last line of the prompt back, so
that order, content and seed all show in the answer.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from appliance.engine.protocol import EngineRequest

OPENINGS: Final = (b"Heard, and set down: ", b"As it was asked: ", b"In its turn: ", b"From behind the wall: ")
_NEWLINE: Final = 10


class ScriptedEngine:
    """Deterministic by construction."""

    @property
    def id(self) -> str:
        return "scripted-1"

    def run(self, request: EngineRequest) -> Iterator[int]:
        opening = OPENINGS[request.seed[0] % len(OPENINGS)]
        said = (*opening, *_last_line(request.prompt))
        yield from said[: request.max_tokens]


def _last_line(prompt: tuple[int, ...]) -> tuple[int, ...]:
    stripped = prompt[:-1] if prompt[-1:] == (_NEWLINE,) else prompt
    for at in range(len(stripped) - 1, -1, -1):
        if stripped[at] == _NEWLINE:
            return stripped[at + 1 :]
    return stripped
