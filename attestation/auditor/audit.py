"""The audit: every check of a bundle, in its order, and one report (docs/spec/audit.md U3, U4).

    report = audit(raw, Terms(policy))
    report.ok, report.status, report.findings

Each link rests on those before it. Where one fails, what rests on it is not judged and says so; everything else still
is, so that one damaged part does not hide the rest. Pure: whom to believe, when it is and what else was seen are in the
terms. What it does not establish is at the end of the specification.
"""

from __future__ import annotations

from typing import Final

from attestation.auditor.audit_bundle import AuditBundle
from attestation.auditor.cell_checks import (
    Believed,
    Released,
    check_decision,
    check_evidence,
    check_granted_heights,
    check_policy,
    check_release,
)
from attestation.auditor.errors import AuditRefused
from attestation.auditor.findings import Ledger, Report, Stage
from attestation.auditor.measured import Measured
from attestation.auditor.order_checks import Ordered, check_config, check_order
from attestation.auditor.receipt_checks import (
    Receipted,
    check_answers,
    check_log,
    check_metering,
    check_models,
    check_receipts,
    check_same,
    check_served_by,
)
from attestation.auditor.terms import Terms

# What stands for a stage that could not be judged: one line each, so that nothing is missing by silence.
_STANDS_FOR: Final = {
    Stage.CONFIG: "what the cell was measured to believe",
    Stage.EVIDENCE: "that silicon vouches for the cell and its keys",
    Stage.POLICY: "that this is a machine and an image you accept",
    Stage.RELEASE: "that the broker released the model to this cell",
    Stage.ORDER: "that a subnet ordered these requests",
    Stage.RECEIPTS: "that every request has its receipt",
    Stage.LOG: "that the receipts stand in the cell's one log",
    Stage.ANSWERS: "that these are the answers",
    Stage.METERING: "that the cost is right",
}


def audit(raw: bytes, terms: Terms) -> Report:
    """Everything there is to say about these bytes under these terms. Raises nothing that they could cause."""
    ledger = Ledger()
    bundle: AuditBundle | None = None
    with ledger.check(Stage.FORM, "form.bundle", "audit.md U1, U2", "this is a bundle, and nothing beside one") as it:
        bundle = AuditBundle.parse(raw)
        it.got = f"{len(raw)} bytes, {len(bundle.cells)} cells"
    if bundle is None:
        _not_reached(ledger, list(_STANDS_FOR), "the bundle")
        return ledger.report()
    measured = check_config(ledger, bundle, terms)
    ordered = check_order(ledger, bundle, terms, measured) if measured else None
    if measured is None or ordered is None:
        judged = {Stage.CONFIG} if measured is None else {Stage.CONFIG, Stage.ORDER}
        wants = "the measured configuration" if measured is None else "the order"
        _not_reached(ledger, [stage for stage in _STANDS_FOR if stage not in judged], wants)
        return ledger.report()
    _audit_cells(ledger, bundle, terms, measured, ordered)
    return ledger.report()


def _audit_cells(ledger: Ledger, bundle: AuditBundle, terms: Terms, measured: Measured, ordered: Ordered) -> None:
    receipted: list[tuple[int, Receipted]] = []
    keys: set[bytes] = set()
    for cell in range(len(bundle.cells)):
        believed = check_evidence(ledger, bundle, cell, terms, measured, ordered)
        if believed is None:
            _not_reached(
                ledger,
                [Stage.POLICY, Stage.RELEASE, Stage.RECEIPTS, Stage.LOG, Stage.METERING],
                "the cell's evidence",
                cell=cell,
            )
            continue
        with ledger.check(Stage.EVIDENCE, "evidence.once", "audit.md U13", "each cell is there once", cell=cell):
            if believed.receipt_key in keys:
                raise AuditRefused(
                    "cell", expected="a cell of its own", got=f"a second cell with the key {believed.receipt_key.hex()}"
                )
        keys.add(believed.receipt_key)
        check_policy(ledger, cell, terms, ordered, believed)
        released = check_release(ledger, bundle, cell, measured, believed)
        if released is not None:
            check_granted_heights(ledger, cell, released, ordered)
            check_decision(ledger, cell, terms, measured, believed, released, ordered)
        found = check_receipts(ledger, bundle, cell, measured, ordered, believed)
        _audit_receipts(ledger, bundle, cell, terms, measured, ordered, believed, released, found)
        if found is not None:
            receipted.append((cell, found))
    check_same(ledger, receipted)
    if receipted:
        check_answers(ledger, bundle, receipted[0][1].receipts)
    else:
        _not_reached(ledger, [Stage.ANSWERS], "the receipts")


def _audit_receipts(
    ledger: Ledger,
    bundle: AuditBundle,
    cell: int,
    terms: Terms,
    measured: Measured,
    ordered: Ordered,
    believed: Believed,
    released: Released | None,
    found: Receipted | None,
) -> None:
    if found is None:
        _not_reached(ledger, [Stage.LOG, Stage.METERING], "the receipts", cell=cell)
        return
    check_models(ledger, bundle, cell, measured, found)
    if released is not None:
        check_served_by(ledger, cell, measured, released, found)
    check_log(ledger, bundle, cell, terms, believed, found, ordered)
    check_metering(ledger, cell, measured, found.receipts)


def _not_reached(ledger: Ledger, stages: list[Stage], wants: str, *, cell: int | None = None) -> None:
    for stage in stages:
        ledger.not_reached(stage, f"{stage.value}.all", "audit.md U4", _STANDS_FOR[stage], wants=wants, cell=cell)
