"""A policy applied to a whole bundle: its quote, every device beside it, and whether it is an answer at all.

Pure, like the sections it calls. Only a nonce that the relying party chose itself makes the report data, and
the nonce of each device, a reference value: without one a bundle may be as old as its certificates, and a
policy that asks for fresh report data refuses it (docs/spec/evidence-production.md E125).
"""

from __future__ import annotations

from attestation.policy.appraise import appraise
from attestation.policy.claims import Appraisal, Claim, ClaimStanding
from attestation.policy.document import Policy
from attestation.verify.verified_bundle import VerifiedBundle
from measurements.reference import ReferenceValues


def appraise_bundle(
    bundle: VerifiedBundle, references: ReferenceValues, policy: Policy, *, nonce: bytes | None
) -> Appraisal:
    """Every claim `policy` makes about the bundle. `nonce` is what was asked for, if anything was."""
    answers = nonce == bundle.statement.nonce
    if answers:
        references = references.joined(_fresh(bundle))
    parts = [appraise(evidence, references, policy) for evidence in (bundle.evidence, *bundle.devices)]
    claims = [claim for part in parts for claim in part.claims]
    return Appraisal(bundle.statement.kind.value, policy.id, (_freshness(bundle, nonce), *claims))


def _fresh(bundle: VerifiedBundle) -> ReferenceValues:
    section = bundle.evidence.format.section
    return ReferenceValues.of({f"{section}.report_data": [bundle.report_data], "gpu.nonce": [bundle.device_nonce]})


def _freshness(bundle: VerifiedBundle, nonce: bytes | None) -> Claim:
    got = bundle.statement.nonce.hex()
    if nonce is None:
        reason = "unchecked: no nonce was asked for, so the evidence may be old"
        return Claim("bundle.nonce", "E125", ClaimStanding.UNCHECKED, reason, got)
    standing = ClaimStanding.MET if nonce == bundle.statement.nonce else ClaimStanding.NOT_MET
    return Claim("bundle.nonce", "E125", standing, nonce.hex(), got)
