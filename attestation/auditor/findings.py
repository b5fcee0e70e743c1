"""What an audit says: every check by name, with the rule it follows, how it stood, and why.

Nothing is left out by silence: a check that could not be made because an earlier one failed is there as `NOT_REACHED`,
one that this bundle has nothing for as `UNCHECKED` with its reason.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import Enum, IntEnum, unique
from types import TracebackType
from typing import Final, Self

from attestation.errors import CollateralMissing, PolicyRefused
from attestation.policy.claims import Appraisal
from foundation.refusal import Refused

SHOWN_MAX: Final = 200


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
class Standing(Enum):
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
    standing: Standing
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
        return tuple(finding for finding in self.findings if finding.standing is Standing.FAILS)

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


class Check:
    """One check while it is made. Whoever makes it says in `got` what was found."""

    def __init__(self, ledger: Ledger, finding: Finding) -> None:
        self._ledger: Final = ledger
        self._finding: Final = finding
        self.got = ""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, reason: BaseException | None, at: TracebackType | None
    ) -> bool:
        of = self._finding
        if reason is None:
            self._ledger.add(replace(of, got=self.got[:SHOWN_MAX]))
            return False
        if not isinstance(reason, Refused):
            return False
        self._ledger.add(
            replace(
                of,
                standing=Standing.FAILS,
                expected=reason.expected[:SHOWN_MAX],
                got=f"{reason.got} ({reason.code})"[:SHOWN_MAX],
                status=_status(of.stage, reason),
            )
        )
        return True


class Ledger:
    """Collects findings. The one mutable thing of an audit, alive only while it is made."""

    def __init__(self) -> None:
        self._findings: list[Finding] = []
        self._appraisals: list[tuple[int, Appraisal]] = []
        self._facts: list[tuple[str, str]] = []
        self._forks: list[bytes] = []
        self.simulated = False

    def check(self, stage: Stage, code: str, rule: str, what: str, *, cell: int | None = None) -> Check:
        """Around what checks: a refusal of ours inside it is the finding that it fails, and goes no further."""
        return Check(self, Finding(stage, code, rule, what, Standing.HOLDS, cell=cell))

    def add(self, finding: Finding) -> None:
        self._findings.append(finding)

    def unchecked(self, stage: Stage, code: str, rule: str, what: str, why: str, *, cell: int | None = None) -> None:
        self.add(Finding(stage, code, rule, what, Standing.UNCHECKED, got=why, cell=cell))

    def not_reached(
        self, stage: Stage, code: str, rule: str, what: str, *, wants: str, cell: int | None = None
    ) -> None:
        self.add(Finding(stage, code, rule, what, Standing.NOT_REACHED, got=f"it rests on: {wants}", cell=cell))

    def appraised(self, cell: int, appraisal: Appraisal) -> None:
        self._appraisals.append((cell, appraisal))

    def fact(self, name: str, value: object) -> None:
        """Something worth knowing that was found on the way, for people."""
        self._facts.append((name, str(value)[:SHOWN_MAX]))

    def forked(self, document: bytes) -> None:
        self._forks.append(document)

    def report(self) -> Report:
        """In the order of the chain, whatever order the checks were made in."""
        stages = list(Stage)
        findings = sorted(self._findings, key=lambda finding: stages.index(finding.stage))
        return Report(tuple(findings), tuple(self._appraisals), tuple(self._facts), tuple(self._forks), self.simulated)


def _status(stage: Stage, refusal: Refused) -> Status:
    match refusal:
        case CollateralMissing():
            return Status.COLLATERAL
        case PolicyRefused():
            return Status.POLICY
        case _:
            return STATUS_OF[stage]
