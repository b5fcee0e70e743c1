"""The tokens of one answer, chosen one after the other from logits.

    sampler = Sampler(request.sampling, request.seed, request.prompt, vocabulary)
    token = sampler.choose(logits)

A sampler counts positions and remembers what penalties need; nothing else of it changes. Of rows computed ahead
(speculation) only those are brought whose tokens before them were really chosen.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from appliance.engine.protocol import Sampling
from appliance.engine.sampling import reference
from appliance.engine.sampling.rules import History, SamplingRefused, key_of


class Sampler:
    """By the reference: for engines whose speed does not matter, and to hold others against."""

    def __init__(self, sampling: Sampling, seed: bytes, prompt: tuple[int, ...], vocabulary: int) -> None:
        self._sampling: Final = sampling
        self._seed: Final = seed
        self._vocabulary: Final = vocabulary
        self._history: Final = History(sampling, prompt, vocabulary)
        self._position = 0

    def resume(self, said: Sequence[int]) -> None:
        """Go on behind these tokens, which were chosen before."""
        for token in said:
            self._history.said(token)
        self._position += len(said)

    def choose(self, logits: Sequence[float]) -> int:
        if len(logits) != self._vocabulary:
            raise SamplingRefused("sampling.logits", expected=self._vocabulary, got=len(logits))
        token = reference.choose(logits, self._sampling, key_of(self._seed, self._position), self._history.edits)
        self._position += 1
        self._history.said(token)
        return token
