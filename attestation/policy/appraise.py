"""From verified evidence, reference values and a policy to an appraisal. Pure; nothing is fetched or timed.

A policy without a section for the kind of evidence refuses it: one unmet claim says so (evidence.md E133).
"""

from __future__ import annotations

from typing import assert_never

from attestation.policy.claims import Appraisal, Claim, ClaimStanding
from attestation.policy.document import Policy
from attestation.policy.gpu import appraise_gpu
from attestation.policy.snp import appraise_snp
from attestation.policy.tdx import appraise_tdx
from attestation.verify.verified import VerifiedSnp
from attestation.verify.verified_gpu import VerifiedGpu
from attestation.verify.verified_tdx import VerifiedTdx
from measurements.reference import ReferenceValues


def appraise(
    evidence: VerifiedSnp | VerifiedTdx | VerifiedGpu, references: ReferenceValues, policy: Policy
) -> Appraisal:
    """Every claim `policy` makes about `evidence`. The evidence is accepted only if none is unmet."""
    tee, claims = _claims(evidence, references, policy)
    return Appraisal(tee, policy.id, claims if claims is not None else (no_section(tee),))


def _claims(
    evidence: VerifiedSnp | VerifiedTdx | VerifiedGpu, references: ReferenceValues, policy: Policy
) -> tuple[str, tuple[Claim, ...] | None]:
    """The kind of evidence, and its claims: None where the policy has no section for it."""
    match evidence:
        case VerifiedSnp():
            return "snp", appraise_snp(evidence, references, policy.snp) if policy.snp else None
        case VerifiedTdx():
            return "tdx", appraise_tdx(evidence, references, policy.tdx) if policy.tdx else None
        case VerifiedGpu():
            return "gpu", appraise_gpu(evidence, references, policy.gpu) if policy.gpu else None
    assert_never(evidence)


def no_section(tee: str) -> Claim:
    """The claim that stands for a policy which says nothing about a kind of evidence."""
    return Claim(f"{tee}.section", "E133", ClaimStanding.NOT_MET, f"a policy with a [{tee}] section", "none")
