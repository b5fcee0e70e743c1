"""The audit: every check of a bundle, in its order, and one report (docs/spec/audit.md U3, U4).

    report = audit(raw, AuditTerms(policy))
    report.ok, report.status, report.findings

The checks are the rows of `checks`. Each rests on those that it names: where one of them fails it is not judged, and
the report says so; everything else still is, so that one damaged part does not hide the rest. Pure: whom to believe,
when it is and what else was seen are in the terms. What an audit does not establish is at the end of the
specification.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from attestation.auditor.checks import CHECKS, STAGES
from attestation.auditor.findings import Report
from attestation.auditor.log_checks import ForkFound
from attestation.auditor.measured import Measured
from attestation.auditor.order_checks import Ordered
from attestation.auditor.rows import SHOWN_MAX, Failed, Held, Made, judge_all
from attestation.auditor.terms import AuditTerms
from attestation.consensus.principal import to_text
from attestation.policy.claims import Appraisal


def audit(raw: bytes, terms: AuditTerms) -> Report:
    """Everything there is to say about these bytes under these terms. Raises nothing that they could cause."""
    made = judge_all(CHECKS, STAGES, raw, terms)
    return Report(
        made.findings,
        appraisals=tuple(_appraisals(made)),
        facts=tuple((name, str(value)[:SHOWN_MAX]) for name, value in _facts(made)),
        forks=tuple(_forks(made)),
        simulated=any(verified.statement.kind.simulated for verified in _found(made, "evidence.genuine")),
    )


def _facts(made: Made) -> Iterator[tuple[str, object]]:
    """What is worth knowing to people, as far as it was found."""
    measured: Measured
    for measured in _found(made, "configuration.read"):
        yield "gateway", to_text(measured.gateway)
        yield "engine", measured.engine
    ordered: Ordered
    for ordered in _found(made, "order.requests"):
        yield "heights", f"{ordered.slice.first.height} to {ordered.slice.head.height}"
        yield "requests", len(ordered.places)
        yield "certified", f"{ordered.certified_at:%Y-%m-%d %H:%M:%S}Z"


def _appraisals(made: Made) -> Iterator[tuple[int, Appraisal]]:
    """Every cell's, accepted or not."""
    for cell, outcome in made.of("policy.claims"):
        if cell is not None and isinstance(outcome.value, Appraisal):
            yield cell, outcome.value


def _forks(made: Made) -> Iterator[bytes]:
    for _, outcome in made.outcomes:
        if isinstance(outcome, Failed) and isinstance(outcome.refusal, ForkFound):
            yield outcome.refusal.document


def _found(made: Made, code: str) -> list[Any]:
    return [outcome.value for _, outcome in made.of(code) if isinstance(outcome, Held)]
