"""The last step of the demo: everything that was done goes into one file, and the auditor checks the file.

The host puts the bundle together out of what it holds. Plain words are left out of it and sealed frames are in it, so
whoever is handed the file learns nothing that the host could not read, and not even all of that.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from anchorhold.host.answer_reports import CompletedAnswer
from anchorhold.replay.replayer import Openings, Replayer, records
from anchorhold.replay.runs import runtime_of
from appliance.config import MeasuredConfig
from appliance.engine_start import close
from attestation.auditor.audit import audit
from attestation.auditor.audit_bundle import Answer, AnswersPart, AskedPart, AuditBundle
from attestation.auditor.bundle_builder import CellSource, assemble
from attestation.auditor.devnet_roots import DevnetRoots
from attestation.auditor.errors import AuditRefused
from attestation.auditor.findings import FindingStanding, Report
from attestation.auditor.page import page
from attestation.auditor.terms import AuditTerms
from attestation.broker.store import Store
from attestation.consensus.blocks import Kind
from attestation.consensus.slices import Body
from attestation.decision_log.codec import Entry
from attestation.decision_log.events import Granted, ReleaseAdded
from attestation.evidence.evidence_bundle import EvidenceBundle
from attestation.rcar.grant import GrantPurpose
from attestation.sealed.ring import Ring
from devnet.tee import SimulatedTee, endorsed, reference_values
from foundation import private_files
from measurements.pack.pack_reader import OpenedPack

BUNDLE, ROOTS, PAGE = "bundle.anchorhold", "devnet-roots.toml", "audit.html"
TAMPERED, TAMPERED_PAGE = "tampered.anchorhold", "tampered.html"


@dataclass(frozen=True, slots=True)
class Kept:
    """What the host of one cell holds when all is done."""

    config: bytes
    proof: bytes
    bodies: Sequence[bytes]
    evidence: bytes
    signed: Sequence[bytes]
    notes: Sequence[bytes]
    told: Mapping[tuple[int, int], CompletedAnswer]


def replay_of(kept: Kept, bundle: AuditBundle, ring: Ring, model: OpenedPack) -> int:
    """How many answers came out the same when they were computed again; raises `AuditRefused` if one did not.

    By the owner of the model and the service keys, who can read what was sealed. Plain prompts are shown to them
    alone: this bundle is never written.
    """
    asked = AskedPart(tuple(Body.parse(body).requests for body in kept.bodies))
    said = AnswersPart(tuple(Answer(told.answer.reveal()) for _, told in sorted(kept.told.items())))
    shown = [record for record in records(replace(bundle, asked=asked.encode(), answers=said.encode())) if record]
    config = MeasuredConfig.parse(kept.config)
    runtime = runtime_of(config, model)
    try:
        replayer = Replayer(runtime, config, shown[0].receipt, Openings(ring))
        replayer.check_engine(shown[0].receipt)
        for record in shown:
            again = replayer.replay(record)
            if not again.same:
                got = again.differs or again.unread
                raise AuditRefused("replay", expected=f"the same answer at {again.place}", got=got)
    finally:
        close(runtime.engine)
    return len(shown)


@dataclass(frozen=True, slots=True)
class Audited:
    """The two audits: of the bundle, and of a copy with one bit of it turned."""

    size: int
    report: Report
    tampered: Report

    @property
    def held(self) -> int:
        return sum(finding.standing is FindingStanding.HOLDS for finding in self.report.findings)


def bundle_of(kept: Kept, store: Store, tee: SimulatedTee) -> AuditBundle:
    """With the collateral that a verifier needs and a cell does not have, and the broker's entries about this cell."""
    evidence = endorsed(EvidenceBundle.parse(kept.evidence), tee)
    cell = CellSource(
        evidence.encode(), kept.signed, kept.notes, entries_about(store, evidence.keyset.digest, kept.evidence)
    )
    answers = {
        place: Answer(told.answer.reveal())
        for place, told in kept.told.items()
        if told.signed.receipt.kind is Kind.SEALED
    }
    return assemble(config=kept.config, proof=kept.proof, bodies=kept.bodies, cells=[cell], answers=answers)


def entries_about(store: Store, keyset: bytes, evidence: bytes) -> tuple[tuple[bytes, bytes], ...]:
    """The signed entries of the grant of the model to this keyset, and of the release it was under."""
    measured = EvidenceBundle.parse(evidence).measured_config
    with store.change() as change:
        entries = [(Entry.parse(raw), (raw, signature)) for raw, signature in change.entries()]
    granted = [
        pair
        for entry, pair in entries
        if isinstance(entry.event, Granted)
        and (entry.event.cell.keyset, entry.event.purpose) == (keyset, GrantPurpose.MODEL)
    ]
    added = [
        pair
        for entry, pair in entries
        if isinstance(entry.event, ReleaseAdded) and entry.event.measured_config == measured
    ]
    return (*added[-1:], *granted[-1:])


def audit_in(folder: Path, bundle: AuditBundle, roots: DevnetRoots) -> Audited:
    """Write the bundle, the roots to believe and the page; audit it, and a copy that somebody tampered with."""
    raw = bundle.encode()
    terms = AuditTerms(roots.policy, roots.references, roots.subnet, simulated_root=roots.tee)
    reports = []
    for content, name, shown in ((raw, BUNDLE, PAGE), (_tampered(raw, bundle), TAMPERED, TAMPERED_PAGE)):
        private_files.replace(folder / name, content)
        report = audit(content, terms)
        private_files.replace(folder / shown, page(report, title=name).encode())
        reports.append(report)
    (folder / ROOTS).write_bytes(roots.encode())
    return Audited(len(raw), *reports)


def roots_of(subnet: bytes, tee: SimulatedTee) -> DevnetRoots:
    return DevnetRoots(subnet, tee.root.der, reference_values(tee))


_TURNED: Final = 300  # of the first cell's receipts: inside the body of the first


def _tampered(raw: bytes, bundle: AuditBundle) -> bytes:
    """One bit of a receipt is turned, and whoever did it also made the file's digests fit again."""
    receipts = bytearray(bundle.cells[0].receipts)
    receipts[_TURNED] ^= 1
    bent = replace(bundle, cells=(replace(bundle.cells[0], receipts=bytes(receipts)), *bundle.cells[1:])).encode()
    if bent == raw:
        raise AssertionError("the tampered copy is the bundle")
    return bent
