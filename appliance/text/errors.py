"""The refusals of text processing.

`ModelTextRefused` is about the files of a model and ends a start; `PromptRefused` is about one request, which keeps its
place in the order and is answered with the code (text.md L20). Neither carries a word of a prompt.
"""

from __future__ import annotations

from foundation.refusal import Refused, StagedRefused


class TextRefused(Refused):
    """Base of the family: nothing else leaves `appliance.text`."""

    stage = "text"


class ModelTextRefused(TextRefused):
    """A tokenizer, a template or a configuration this cell does not serve."""

    stage = "model text"


class PromptRefused(StagedRefused, TextRefused):
    """A request that cannot become a prompt of this model."""

    stage = "prompt"
