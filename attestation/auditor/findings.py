"""What an audit says: every check by name, with the rule it follows, how it stood, and why.

Nothing is left out by silence: a check that could not be made because an earlier one failed is there as `NOT_REACHED`,
one that this bundle has nothing for as `UNCHECKED` with its reason.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import Enum, IntEnum, unique
from typing import Final

from attestation.errors import CollateralMissing, PolicyRefused
from attestation.policy.claims import Appraisal
from foundation.refusal import Refused


@unique
class Stage(Enum):
    """The links of the chain, in the order they are checked."""

    FORM = "form"
    CONFIG = "configuration"
    EVIDENCE = "evidence"
    POLICY = "policy"
    RELEASE = "release"
    ORDER = "order"
    RECEIPTS = "receipts"
    LOG = "log"
    ANSWERS = "answers"
    METERING = "metering"
    REPLAY = "replay"


@unique
class Status(IntEnum):
    """Exit statuses, as for every verb."""

    OK = 0
    MALFORMED = 1
    CHAIN = 2
    COLLATERAL = 3
    POLICY = 4
    LOG = 5


STATUS_OF: Final = {
    Stage.FORM: Status.MALFORMED,
    Stage.CONFIG: Status.CHAIN,
    Stage.EVIDENCE: Status.CHAIN,
    Stage.POLICY: Status.POLICY,
    Stage.RELEASE: Status.CHAIN,
    Stage.ORDER: Status.CHAIN,
    Stage.RECEIPTS: Status.LOG,
    Stage.LOG: Status.LOG,
    Stage.ANSWERS: Status.LOG,
    Stage.METERING: Status.LOG,
    Stage.REPLAY: Status.LOG,
}


@unique
class FindingStanding(Enum):
    HOLDS = "holds"
    FAILS = "fails"
    UNCHECKED = "unchecked"
    NOT_REACHED = "not reached"


@dataclass(frozen=True, slots=True)
class Finding:
    """One check. `code` is stable; `what` says it to people; `cell` numbers from 0 where it is about one cell."""

    stage: Stage
    code: str
    rule: str
    what: str
    standing: FindingStanding
    expected: str = ""
    got: str = ""
    cell: int | None = None
    status: Status = Status.OK


@dataclass(frozen=True, slots=True)
class Report:
    """All findings in the order of the checks, and every claim of every appraisal."""

    findings: tuple[Finding, ...]
    appraisals: tuple[tuple[int, Appraisal], ...] = ()
    facts: tuple[tuple[str, str], ...] = ()
    forks: tuple[bytes, ...] = ()  # documents of receipt.md T27 that convict a key
    simulated: bool = False  # some cell's silicon is; everything found is worth no more than that

    @property
    def failed(self) -> tuple[Finding, ...]:
        return tuple(finding for finding in self.findings if finding.standing is FindingStanding.FAILS)

    @property
    def ok(self) -> bool:
        return bool(self.findings) and not self.failed

    @property
    def status(self) -> Status:
        """Of the first check that failed: what is behind it rests on it."""
        return self.failed[0].status if self.failed else Status.OK

    def of(self, stage: Stage) -> tuple[Finding, ...]:
        return tuple(finding for finding in self.findings if finding.stage is stage)

    def also(self, findings: Sequence[Finding]) -> Report:
        return replace(self, findings=(*self.findings, *findings))


def status_of(stage: Stage, refusal: Refused) -> Status:
    """The exit status of a check of this stage that fails so."""
    match refusal:
        case CollateralMissing():
            return Status.COLLATERAL
        case PolicyRefused():
            return Status.POLICY
        case _:
            return STATUS_OF[stage]
