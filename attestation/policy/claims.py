"""What an appraisal is made of: every claim that was looked at, with a stable code, and how it stood.

Nothing is "not checked" by silence: a claim a policy leaves out is listed as `UNCHECKED` with its reason.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


class ClaimStanding(Enum):
    MET = "met"
    NOT_MET = "not met"
    UNCHECKED = "unchecked"


@dataclass(frozen=True, slots=True)
class Unchecked:
    """A policy field that is deliberately not compared, and why. There is no other way to leave one out."""

    reason: str

    def __post_init__(self) -> None:
        if not self.reason.strip():
            raise ValueError("an unchecked field needs a reason")


@dataclass(frozen=True, slots=True)
class Claim:
    """One thing looked at. `code` is stable (`snp.policy.debug`); `rule` is the numbered rule of the spec.

    `collateral` marks a claim that fresh collateral alone could turn: when only such claims are unmet, the
    answer to "why refused" is "bring a newer list", not "this machine is unwelcome" (evidence.md E135).
    """

    code: str
    rule: str
    standing: ClaimStanding
    expected: str
    got: str
    collateral: bool = False


@dataclass(frozen=True, slots=True)
class Appraisal:
    """All claims of one piece of evidence under one policy. Accepted only if there is no claim NOT_MET."""

    tee: str
    policy_id: str
    claims: tuple[Claim, ...]

    @property
    def accepted(self) -> bool:
        return bool(self.claims) and all(claim.standing is not ClaimStanding.NOT_MET for claim in self.claims)

    @property
    def unmet(self) -> tuple[Claim, ...]:
        return tuple(claim for claim in self.claims if claim.standing is ClaimStanding.NOT_MET)

    @property
    def wants_only_collateral(self) -> bool:
        """Refused, and only for want of collateral."""
        return bool(self.unmet) and all(claim.collateral for claim in self.unmet)
