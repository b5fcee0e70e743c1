"""The trace of an answer: one hash chain over every token with the leading logits it was chosen from.

Two runs that differ anywhere differ in every digest from there on, also where the tokens happen to agree.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Final

from appliance.engine.protocol import Step
from foundation.digests import tagged_sha256

TAG: Final = "anchorhold/trace/v1"
START: Final = tagged_sha256(TAG)
LEADERS: Final = 8  # how many of the greatest logits a step covers
_PLACE: Final = struct.Struct("<II")


def packed(leaders: Sequence[tuple[int, float]]) -> bytes:
    """(token, logit) of the greatest logits, greatest first, as they are hashed: ids and float32 bits."""
    return b"".join(struct.pack("<If", *leader) for leader in leaders)


class Trace:
    """docs/spec/engine.md: chain n = SHA-256(tag || chain n-1 || position || token || leading ids and logits)."""

    def __init__(self) -> None:
        self.digest = START
        self._position = 0

    def step(self, token: int, leaders: Sequence[tuple[int, float]]) -> Step:
        return self.add(token, packed(leaders))

    def add(self, token: int, leaders: bytes) -> Step:
        """The same with the leaders packed already."""
        self.digest = tagged_sha256(TAG, self.digest, _PLACE.pack(self._position, token), leaders)
        self._position += 1
        return Step(token, self.digest)
