"""What is refused: by the cell, of a request, with a code that is ordered and signed; by the client, of an answer."""

from __future__ import annotations

from foundation.refusal import StagedRefused


class SealedRefused(StagedRefused):
    """A request that keeps its place and is not run. Every cell reaches the same code (answer.md A13)."""

    stage = "sealed"


class KeysRefused(StagedRefused):
    """Bytes that are no service key, no ring of them or no descriptor, or a descriptor its broker did not sign."""

    stage = "service-key"


class AnswerRefused(StagedRefused):
    """Frames that are not, in this order and to their end, the answer to this request."""

    stage = "answer"
