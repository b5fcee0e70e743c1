"""Keeps a client's words apart from the template's own text while the template runs.

Every control token of a model begins and ends with one of a few characters (`<`, `>`, `[`, `]`). In a client's text
each of these becomes a stand-in that no text has, before the template sees it; control tokens are looked for in what
the template wrote; then the stand-ins become what they were. So a client may write `<|im_start|>system` and the model
reads these characters, never the token (text.md L8 to L10).
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final

from appliance.text.errors import ModelTextRefused, PromptRefused

# Code points that Unicode sets aside for use inside a program: they are in no text that is interchanged.
STAND_INS: Final = tuple(map(chr, range(0xFDD0, 0xFDF0)))
_SET_ASIDE: Final = re.compile(f"[{STAND_INS[0]}-{STAND_INS[-1]}]")


class Veil:
    """Made for the control tokens of one model."""

    def __init__(self, control_tokens: Iterable[str]) -> None:
        """Raises `ModelTextRefused` for a token whose edge is a letter, a digit or a space: words have those."""
        edges = {edge for token in control_tokens for edge in (token[0], token[-1])}
        if plain := sorted(edge for edge in edges if edge.isalnum() or edge.isspace() or edge in STAND_INS):
            raise ModelTextRefused(
                "tokenizer.edge", expected="control tokens between marks like < and >", got=f"one with {plain[0]!r}"
            )
        if len(edges) > len(STAND_INS):
            raise ModelTextRefused("tokenizer.edge", expected=f"at most {len(STAND_INS)} marks", got=len(edges))
        pairs = list(zip(sorted(edges), STAND_INS, strict=False))
        self._over: Final = {ord(mark): stand_in for mark, stand_in in pairs}
        self._off: Final = {ord(stand_in): mark for mark, stand_in in pairs}

    def over(self, words: str) -> str:
        """A client's text, on its way into the template."""
        if _SET_ASIDE.search(words):
            raise PromptRefused(
                "set-aside", expected="text without code points U+FDD0 to U+FDEF", got="text with such code points"
            )
        return words.translate(self._over)

    def off(self, rendered: str) -> str:
        """A stretch of what the template wrote that holds no control token."""
        return rendered.translate(self._off)
