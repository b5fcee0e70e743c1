"""An engine that gives scripted answers. For tests that need no model.

Its tokens are bytes. It opens with a line its seed chooses and then says back what the last line of the prompt
says after its role, so that order, content and seed all show in the answer.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from appliance.engine.protocol import EngineRequest, Step
from appliance.engine.trace import Trace
from foundation.digests import tagged_sha256

OPENINGS: Final = (b"Heard, and set down: ", b"As it was asked: ", b"In its turn: ", b"From behind the wall: ")


class ScriptedEngine:
    """Deterministic by construction."""

    @property
    def id(self) -> str:
        return "scripted-1"

    @property
    def fingerprint(self) -> bytes:
        return tagged_sha256("anchorhold/engine/scripted/v1", self.id.encode())

    def run(self, request: EngineRequest) -> Iterator[Step]:
        opening = OPENINGS[request.seed[0] % len(OPENINGS)]
        said = (*opening, *_last_words(request.prompt))
        trace = Trace()
        for token in said[: request.max_tokens]:
            if token in request.stop_tokens:
                return
            yield trace.step(token, ())


def _last_words(prompt: tuple[int, ...]) -> bytes:
    *_, last = bytes(prompt).splitlines() or [b""]
    role, colon, words = last.partition(b":")
    return words if colon else role
