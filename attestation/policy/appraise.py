"""From verified evidence, reference values and a policy to an appraisal. Pure; nothing is fetched or timed.

A policy without a section for the kind of evidence refuses it: one unmet claim says so (evidence.md E133).
"""

from __future__ import annotations

from attestation.policy.claims import Appraisal, Claim, Standing
from attestation.policy.document import Policy
from attestation.policy.snp import appraise_snp
from attestation.verify.verified import VerifiedEvidence
from measurements.reference import ReferenceValues


def appraise(evidence: VerifiedEvidence, references: ReferenceValues, policy: Policy) -> Appraisal:
    """Every claim `policy` makes about `evidence`. The evidence is accepted only if none is unmet."""
    if policy.snp is None:
        return Appraisal("snp", policy.id, (no_section("snp"),))
    return Appraisal("snp", policy.id, appraise_snp(evidence, references, policy.snp))


def no_section(tee: str) -> Claim:
    """The claim that stands for a policy which says nothing about a kind of evidence."""
    return Claim(f"{tee}.section", "E133", Standing.NOT_MET, f"a policy with a [{tee}] section", "none")
