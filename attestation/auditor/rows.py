"""A check of an audit as a row of a table, and the one loop that makes the checks (docs/spec/audit.md U4).

A row names its check, the rule it enforces, what it rests on and how it is judged. `judge` is pure: it is given what
the row wants, and returns what was found or raises a `Refused`. Where something that a row wants is missing, the loop
says so; no check decides that another was not reached.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import Enum
from itertools import groupby
from typing import Any, Final, Generic, TypeVar

from attestation.auditor.audit_bundle import AuditBundle
from attestation.auditor.findings import Finding, FindingStanding, Stage, status_of
from attestation.auditor.terms import AuditTerms
from foundation.refusal import Refused

T = TypeVar("T")

SHOWN_MAX: Final = 200
# What every audit begins with. Rows want them by these names, as they want what other rows found.
FILE, TERMS, CELL = "the file", "the terms", "the cell"
GIVEN: Final = frozenset({FILE, TERMS, CELL})
BUNDLE: Final = "form.bundle"  # the check that says how many cells there are


class Scope(Enum):
    """What a check is made for: the bundle, each cell, or the cells together."""

    BUNDLE = "bundle"
    CELL = "cell"
    CELLS = "cells"


@dataclass(frozen=True, slots=True)
class Held(Generic[T]):
    """`value` is what checks that rest on this one go on with; `got` and `what` say to people what was found."""

    value: T
    got: str = ""
    what: str = ""
    cell: int | None = None


@dataclass(frozen=True, slots=True)
class NothingToCheck(Generic[T]):
    """The bundle or the auditor brought nothing for it. With a `value` others can go on all the same."""

    why: str
    value: T | None = None
    what: str = ""
    cell: int | None = None


@dataclass(frozen=True, slots=True)
class Failed(Generic[T]):
    """What a raised refusal says as well, unless others can go on with a `value` all the same."""

    refusal: Refused
    value: T | None = None
    what: str = ""
    cell: int | None = None


Outcome = Held[Any] | NothingToCheck[Any] | Failed[Any]
Judge = Callable[..., Outcome | Sequence[Outcome] | None]
"""None: the check does not apply to this bundle, and has no finding."""


@dataclass(frozen=True, slots=True)
class Check:
    """One check.

    `judge` is given, in this order, what was found by the checks in `needs`, all of which have to have found something;
    by those in `uses`, or None; and by those in `across`, for every cell so far, by its number. `after` names checks
    that have to have found something, which this one does not look at. A check of the cells together is given what it
    needs of the cells by their numbers, and one cell is enough.

    `called` is how a finding names this check where the next one is reported as resting on it.
    """

    code: str
    rule: str
    what: str
    judge: Judge
    needs: tuple[str, ...] = ()
    after: tuple[str, ...] = ()
    uses: tuple[str, ...] = ()
    across: tuple[str, ...] = ()
    scope: Scope = Scope.CELL
    called: str = ""

    @property
    def stage(self) -> Stage:
        return Stage(self.code.partition(".")[0])

    def finding(self, standing: FindingStanding, what: str, got: str, cell: int | None) -> Finding:
        return Finding(self.stage, self.code, self.rule, what, standing, got=got, cell=cell)

    @property
    def rests_on(self) -> tuple[str, ...]:
        """The checks without which this one is not made."""
        return tuple(dict.fromkeys(name for name in (*self.needs, *self.after) if name not in GIVEN))

    @property
    def looks_at(self) -> tuple[str, ...]:
        """Those, and the checks of which it takes what there is."""
        return tuple(dict.fromkeys((*self.rests_on, *self.uses, *self.across)))


@dataclass(frozen=True, slots=True)
class StageWords:
    """`whole` stands for a stage of which nothing could be judged; `called` is how later stages name it."""

    whole: str
    called: str = ""


CheckAt = tuple[str, int | None]
"""A check, and the cell it was made for."""


@dataclass(frozen=True, slots=True)
class Made:
    """Every check that was made: the findings in the order of the chain, and the outcomes in the order of the table."""

    findings: tuple[Finding, ...]
    outcomes: tuple[tuple[CheckAt, Outcome], ...]

    def of(self, code: str) -> list[tuple[int | None, Outcome]]:
        return [(cell, outcome) for (made, cell), outcome in self.outcomes if made == code]


def judge_all(rows: Sequence[Check], words: Mapping[Stage, StageWords], raw: bytes, terms: AuditTerms) -> Made:
    """Row by row. Neighbouring rows of a cell are made together for one cell, and then for the next."""
    making = _Making({row.code: row for row in rows}, words, {(FILE, None): raw, (TERMS, None): terms})
    for scope, group in groupby(rows, key=lambda row: row.scope):
        together = list(group)
        for cell in making.cells() if scope is Scope.CELL else (None,):
            for row in together:
                making.make(row, cell)
    stages = list(Stage)
    findings = sorted(making.findings, key=lambda finding: stages.index(finding.stage))
    return Made(tuple(findings), tuple(making.outcomes))


@dataclass(frozen=True, slots=True)
class _Cause:
    """The check that failed, where another was not reached: its stage, and its cell if it is about one."""

    stage: Stage
    cell: int | None


@dataclass(slots=True)
class _Making:
    """The one mutable thing of an audit, alive only while it is made."""

    rows: Mapping[str, Check]
    words: Mapping[Stage, StageWords]
    values: dict[CheckAt, object]
    causes: dict[CheckAt, _Cause] = field(default_factory=dict)  # of what was not reached
    findings: list[Finding] = field(default_factory=list)
    outcomes: list[tuple[CheckAt, Outcome]] = field(default_factory=list)
    spoken: set[tuple[Stage, int | None]] = field(default_factory=set)  # stages that have a finding

    def cells(self) -> Sequence[int | None]:
        """One that is no number stands for all, where it is not known how many there are."""
        bundle = self.values.get((BUNDLE, None))
        return range(len(bundle.cells)) if isinstance(bundle, AuditBundle) else (None,)

    def make(self, row: Check, cell: int | None) -> None:
        musts = (name for name in (*row.needs, *row.after) if name not in GIVEN)
        missing = next((name for name in musts if self._found(name, row, cell) is None), None)
        if missing is not None:
            self._not_reached(row, cell, missing)
            return
        wanted = [self._found(name, row, cell) for name in (*row.needs, *row.uses)]
        wanted += [self._of_cells(name) for name in row.across]
        try:
            judged = row.judge(*wanted)
        except Refused as refusal:
            judged = Failed(refusal)
        outcomes = () if judged is None else judged if isinstance(judged, Sequence) else (judged,)
        for outcome in outcomes:
            self._keep(row, cell, outcome)

    def _found(self, name: str, row: Check, cell: int | None) -> object:
        if name == CELL:
            return cell
        if name in GIVEN or self.rows[name].scope is not Scope.CELL:
            return self.values.get((name, None))
        return self.values.get((name, cell)) if row.scope is Scope.CELL else self._of_cells(name) or None

    def _of_cells(self, name: str) -> dict[int, object]:
        found = {cell: self.values.get((name, cell)) for cell in self.cells() if cell is not None}
        return {cell: value for cell, value in found.items() if value is not None}

    def _keep(self, row: Check, cell: int | None, outcome: Outcome) -> None:
        self.outcomes.append(((row.code, cell), outcome))
        about = cell if outcome.cell is None else outcome.cell
        what = outcome.what or row.what
        match outcome:
            case Held(value, got):
                self._add(row.finding(FindingStanding.HOLDS, what, got[:SHOWN_MAX], about))
            case NothingToCheck(why, value):
                self._add(row.finding(FindingStanding.UNCHECKED, what, why, about))
            case Failed(refusal, value):
                self._add(failure(row, refusal, what, about))
        if value is not None:
            self.values[row.code, cell] = value

    def _not_reached(self, row: Check, cell: int | None, missing: str) -> None:
        cause = self._cause(self.rows[missing], row, cell)
        self.causes[row.code, cell] = cause
        need = self.rows[missing]
        if need.called and (need.code, None) not in self.causes:
            self._add(row.finding(FindingStanding.NOT_REACHED, row.what, f"it rests on: {need.called}", cause.cell))
        elif (row.stage, cause.cell) not in self.spoken:
            got = f"it rests on: {self.words[cause.stage].called}"
            whole = row.finding(FindingStanding.NOT_REACHED, self.words[row.stage].whole, got, cause.cell)
            self._add(replace(whole, code=f"{row.stage.value}.all", rule="audit.md U4"))

    def _cause(self, need: Check, row: Check, cell: int | None) -> _Cause:
        """Of what a need of this row lacks: the need itself failed, or something that it rests on."""
        if need.scope is not Scope.CELL:
            return self.causes.get((need.code, None)) or _Cause(need.stage, None)
        if row.scope is Scope.CELL:
            return self.causes.get((need.code, cell)) or _Cause(need.stage, cell)
        of_cells = {self.causes.get((need.code, each)) for each in self.cells()}
        common = of_cells.pop() if len(of_cells) == 1 else None
        return common if common is not None and common.cell is None else _Cause(need.stage, None)

    def _add(self, finding: Finding) -> None:
        self.findings.append(finding)
        self.spoken.add((finding.stage, finding.cell))


def failure(row: Check, refusal: Refused, what: str, cell: int | None) -> Finding:
    """The finding that a check fails, as its refusal says."""
    return replace(
        row.finding(FindingStanding.FAILS, what, f"{refusal.got} ({refusal.code})"[:SHOWN_MAX], cell),
        expected=refusal.expected[:SHOWN_MAX],
        status=status_of(row.stage, refusal),
    )


def each_tried(judge: Callable[[T], Held[Any]], of: Iterable[T]) -> list[Outcome]:
    """One outcome for each: what fails for one says nothing of the others."""
    outcomes: list[Outcome] = []
    for one in of:
        try:
            outcomes.append(judge(one))
        except Refused as refusal:
            outcomes.append(Failed(refusal))
    return outcomes
