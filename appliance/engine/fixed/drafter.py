"""Guesses the next tokens from the earlier ones, so that repeating text is computed several tokens in one pass.

A guess is only ever confirmed: each token is chosen from its own logits, and those do not depend on the guesses that
were computed beside them. So the answer is the same with any drafter or none; only the time differs.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

LONGEST, SHORTEST = 3, 2  # tokens that must recur before anything is guessed from them
MOST: Final = 12  # guesses in a pass
LEAST: Final = 2
PAUSE_MOST: Final = 16  # passes without a guess, after guesses that were all wrong


class Drafter:
    """The last place where the latest tokens stood before, and what followed there. One per answer."""

    def __init__(self, prompt: Sequence[int]) -> None:
        self._tokens: list[int] = []
        self._followed: dict[tuple[int, ...], int] = {}
        self._width = 4
        self._misses = 0
        self._pause = 0
        for token in prompt:
            self.said(token)

    def said(self, token: int) -> None:
        for size in range(SHORTEST, LONGEST + 1):
            if len(self._tokens) >= size:
                self._followed[tuple(self._tokens[-size:])] = len(self._tokens)
        self._tokens.append(token)

    def draft(self, room: int) -> list[int]:
        """At most `room` guesses for what follows the last token said."""
        if self._pause:
            self._pause -= 1
            return []
        for size in range(LONGEST, SHORTEST - 1, -1):
            at = self._followed.get(tuple(self._tokens[-size:])) if len(self._tokens) >= size else None
            if at is not None:
                return self._copied(at, min(room, self._width))
        return []

    def _copied(self, at: int, count: int) -> list[int]:
        """What stands from `at` on; where it runs into the end, it goes round."""
        period = len(self._tokens) - at
        return [self._tokens[at + index % period] for index in range(count)]

    def judged(self, guessed: int, right: int) -> None:
        """Guess further while guesses hold, less where they don't, and after a miss not at all for a while."""
        if not guessed:
            return
        self._width = min(MOST, self._width + 4) if right == guessed else max(LEAST, min(self._width, right + 1))
        self._misses = 0 if right else self._misses + 1
        self._pause = 0 if right else min(PAUSE_MOST, 1 << self._misses)
