"""The tokens of one sequence and the cache that holds their keys and values.

A record never claims more than was computed: it is cut before a pass and grows only after one that succeeded. So a
pass that failed, or an answer nobody read to its end, leaves nothing that a later request could trip over.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from appliance.engine.fixed.model import Cache, Model


class Cached:
    """Which tokens a cache holds, from position 0 on, and for whom."""

    def __init__(self, cache: Cache) -> None:
        self.cache: Final = cache
        self.scope = b""
        self._tokens: list[int] = []

    @property
    def tokens(self) -> Sequence[int]:
        return self._tokens

    def begin(self, prompt: Sequence[int], scope: bytes) -> int:
        """Take the cache for a request; how many positions of its prompt are there already, never all of them."""
        same = 0
        if scope and scope == self.scope:
            same = min(common(self._tokens, prompt), len(prompt) - 1)
        self.scope = scope
        del self._tokens[same:]
        return same

    def cut(self, positions: int) -> None:
        del self._tokens[positions:]

    def grew(self, tokens: Sequence[int]) -> None:
        self._tokens.extend(tokens)


def common(a: Sequence[int], b: Sequence[int]) -> int:
    """How many leading tokens two sequences share."""
    return next((i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))


def fill(model: Model, cached: Cached, prompt: Sequence[int]) -> int:
    """Compute what is missing of the prompt, in passes of at most `rows_max`; the address of the last row's logits."""
    start = len(cached.tokens)
    logits = 0
    while start < len(prompt):
        rows = prompt[start : start + model.rows_max]
        last = start + len(rows) == len(prompt)
        found = model.forward(
            rows, [cached.cache] * len(rows), range(start, start + len(rows)), [len(rows) - 1] if last else []
        )
        cached.grew(rows)
        logits = found[0] if last else logits
        start += len(rows)
    return logits


def extend(model: Model, cached: Cached, tokens: Sequence[int]) -> list[int]:
    """One pass over a sequence's next tokens; the addresses of the logits after each."""
    start = len(cached.tokens)
    found = model.forward(tokens, [cached.cache] * len(tokens), range(start, start + len(tokens)), range(len(tokens)))
    cached.grew(tokens)
    return found
