"""What is refused: by the cell, of a request, with a code that is ordered and signed; by the client, of an answer."""

from __future__ import annotations

from foundation.refusal import Refused


class SealedRefused(Refused):
    """A request that keeps its place and is not run. Every cell reaches the same code (answer.md A13)."""

    stage = "sealed"

    def __init__(self, code: str, *, expected: object, got: object) -> None:
        super().__init__(f"{self.stage}.{code}", expected=expected, got=got)


class KeysRefused(Refused):
    """Bytes that are no service key, no ring of them or no descriptor, or a descriptor its broker did not sign."""

    stage = "service-key"

    def __init__(self, code: str, *, expected: object, got: object) -> None:
        super().__init__(f"{self.stage}.{code}", expected=expected, got=got)


class AnswerRefused(Refused):
    """Frames that are not, in this order and to their end, the answer to this request."""

    stage = "answer"

    def __init__(self, code: str, *, expected: object, got: object) -> None:
        super().__init__(f"{self.stage}.{code}", expected=expected, got=got)
