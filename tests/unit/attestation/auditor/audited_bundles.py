"""A sound bundle, bundles with one thing changed, and what an audit finds in one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from appliance.ordering.sequencer import OrderedRequest
from appliance.serving.receipts import Conclusion
from attestation.auditor.audit import audit
from attestation.auditor.audit_bundle import AuditBundle
from attestation.auditor.findings import Finding, Report
from attestation.auditor.terms import AuditTerms
from tests.little_audit import LittleCellHost, good, terms, world

GOOD = good()
BUNDLE = AuditBundle.parse(GOOD)


def judged(bundle: AuditBundle | bytes, of: AuditTerms | None = None) -> Report:
    return audit(bundle if isinstance(bundle, bytes) else bundle.encode(), of or terms())


def first(report: Report) -> Finding:
    assert not report.ok
    return report.failed[0]


def with_cell(bundle: AuditBundle, **parts: bytes) -> AuditBundle:
    """`bundle` with other parts of its first cell."""
    return replace(bundle, cells=(replace(bundle.cells[0], **parts), *bundle.cells[1:]))


def one_cell(cell: LittleCellHost, **changes: object) -> AuditBundle:
    """A bundle of one cell that was run otherwise than the world's."""
    of = replace(world(), cells=(cell,), **changes)  # type: ignore[arg-type]
    return of.bundle()


Bend = Callable[[OrderedRequest, Conclusion], Conclusion]


def bent_at(number: int, **changes: object) -> Bend:
    def bend(request: OrderedRequest, said: Conclusion) -> Conclusion:
        return replace(said, **changes) if request.id == number else said  # type: ignore[arg-type]

    return bend
