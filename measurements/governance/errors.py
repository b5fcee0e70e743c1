"""Why governance refuses, by stage. Catch `GovernanceRefused` for all of it; `code` is stable."""

from __future__ import annotations

from typing import ClassVar

from foundation.refusal import Refused


class GovernanceRefused(Refused):
    """Base of the family."""

    stage: ClassVar[str] = "governance"


class PayloadRefused(GovernanceRefused):
    """Bytes that are no action, or not in their one encoding."""

    stage: ClassVar[str] = "governance payload"


class AuthorityRefused(GovernanceRefused):
    """Not decided by who may decide, or no proof that it was."""

    stage: ClassVar[str] = "governance authority"


class DecisionRefused(GovernanceRefused):
    """A file that is no decision."""

    stage: ClassVar[str] = "governance decision"


class HistoryRefused(GovernanceRefused):
    """A decision that does not follow from the ones before it."""

    stage: ClassVar[str] = "governance history"
