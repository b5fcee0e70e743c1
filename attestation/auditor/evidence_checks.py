"""The links about the machine judged: genuine evidence, and evidence that the auditor wants (audit.md U12 to U14)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from attestation.auditor.audit_bundle import AuditBundle, audit_nonce
from attestation.auditor.errors import AuditRefused
from attestation.auditor.measured import Measured
from attestation.auditor.order_checks import Ordered
from attestation.auditor.rows import Failed, Held, NothingToCheck
from attestation.auditor.terms import AuditTerms
from attestation.errors import CollateralMissing, PolicyRefused
from attestation.evidence.evidence_bundle import EvidenceBundle
from attestation.evidence.keyset import KeyAlgorithm, KeyUse
from attestation.policy.bundle_appraisal import appraise_bundle
from attestation.policy.claims import Appraisal
from attestation.receipts.signed_receipt import check_key
from attestation.report_data import Purpose
from attestation.verify.evidence_bundle import verify_bundle
from attestation.verify.verified_bundle import VerifiedBundle
from foundation.refusal import Refused, listed
from measurements.launch.measurement import LaunchMeasurement


@dataclass(frozen=True, slots=True)
class Believed:
    """A cell whose evidence is genuine: what it runs and which key signs its receipts."""

    verified: VerifiedBundle
    receipt_key: bytes
    measurement: LaunchMeasurement


@dataclass(frozen=True, slots=True)
class Answered:
    """The nonce that a cell's evidence was asked for with; None where it is neither a block's nor the auditor's."""

    nonce: bytes | None


def genuine(terms: AuditTerms, ordered: Ordered, raw: bytes) -> Held[VerifiedBundle]:
    at = terms.at or ordered.certified_at
    verified = verify_bundle(EvidenceBundle.parse(raw), at=at, simulated_root=terms.simulated_root)
    return Held(verified, f"{verified.statement.kind.value}, root {verified.evidence.root.name}")


def states_simulated(raw: bytes) -> bool:
    """Whether a bundle says of any cell that its silicon is simulated. Nothing is verified: it is for a hint."""
    try:
        cells = AuditBundle.parse(raw).cells
        return any(EvidenceBundle.parse(cell.evidence).kind.simulated for cell in cells)
    except Refused:
        return False


def identity(verified: VerifiedBundle) -> Held[None]:
    if verified.statement.purpose is not Purpose.IDENTITY:
        raise AuditRefused("purpose", expected="identity", got=verified.statement.purpose.name.lower())
    return Held(None)


def binds_configuration(verified: VerifiedBundle, measured: Measured) -> Held[None]:
    if verified.statement.measured_config != measured.digest:
        raise AuditRefused("config", expected=measured.digest.hex(), got=verified.statement.measured_config.hex())
    return Held(None, measured.digest.hex())


def receipt_key(verified: VerifiedBundle) -> Held[Believed]:
    key = _receipt_key(verified)
    return Held(Believed(verified, key, verified.evidence.launch), key.hex())


def once(cell: int, cells: Mapping[int, Believed]) -> Held[None]:
    key = cells[cell].receipt_key
    if any(other.receipt_key == key for number, other in cells.items() if number < cell):
        raise AuditRefused("cell", expected="a cell of its own", got=f"a second cell with the key {key.hex()}")
    return Held(None)


def _receipt_key(verified: VerifiedBundle) -> bytes:
    key = verified.keyset.key(KeyUse.RECEIPT)
    if key is None or key.algorithm is not KeyAlgorithm.ED25519:
        raise AuditRefused("receipt-key", expected="an Ed25519 key", got=key.algorithm.name if key else "none")
    check_key(key.raw)
    return key.raw


def fresh(terms: AuditTerms, ordered: Ordered, believed: Believed) -> Held[Answered] | NothingToCheck[Answered]:
    """U12: a nonce that follows from a block's link was asked after that block's beacon was drawn."""
    nonce = believed.verified.statement.nonce
    for header, link in zip(ordered.slice.headers, ordered.slice.links, strict=True):
        if nonce == audit_nonce(link):
            return Held(Answered(nonce), f"made after height {header.height} was sealed")
    if nonce in terms.nonces:
        return Held(Answered(nonce), nonce.hex(), what="the evidence answers a nonce of yours")
    why = "its nonce is neither of a block shown here nor one of yours; your policy decides"
    return NothingToCheck(why, Answered(None))


def nonces(terms: AuditTerms, cells: Mapping[int, VerifiedBundle]) -> Held[None] | None:
    """U12: nothing where the auditor named none."""
    answered = {verified.statement.nonce for verified in cells.values()}
    for nonce in terms.nonces:
        if nonce not in answered:
            got = f"evidence over {listed(answered)}"
            raise AuditRefused("nonce", expected=f"evidence over {nonce.hex()}", got=got)
    return Held(None, f"{len(terms.nonces)} answered") if terms.nonces else None


def claims(terms: AuditTerms, believed: Believed, answered: Answered) -> Held[Appraisal] | Failed[Appraisal]:
    appraisal = appraise_bundle(believed.verified, terms.references, terms.policy, nonce=answered.nonce)
    try:
        _accept(appraisal)
    except (CollateralMissing, PolicyRefused) as refusal:
        return Failed(refusal, appraisal)
    return Held(appraisal, f"{len(appraisal.claims)} claims of {appraisal.policy_id}")


def _accept(appraisal: Appraisal) -> None:
    if appraisal.accepted:
        return
    unmet = appraisal.unmet
    kind = CollateralMissing if appraisal.wants_only_collateral else PolicyRefused
    names = ", ".join(claim.code for claim in unmet) or "no claim at all"
    raise kind(unmet[0].code if unmet else "policy.empty", expected=unmet[0].expected if unmet else "claims", got=names)
