"""What an audit refuses. Everything else it says is a finding."""

from __future__ import annotations

from foundation.refusal import Refused


class AuditRefused(Refused):
    """Base of the family; by itself, bytes that are no bundle."""

    stage = "audit"

    def __init__(self, code: str, *, expected: object, got: object) -> None:
        super().__init__(f"audit.{code}", expected=expected, got=got)
