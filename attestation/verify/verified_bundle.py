"""What verification of an evidence bundle hands on: the facts, and the claims they bind. No certificate.

Made in `attestation.verify.evidence_bundle` alone; see `attestation.verify.verified` for what the seal is worth.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from attestation.evidence.keyset import Keyset
from attestation.report_data import Statement
from attestation.verify.verified import SEAL, Seal, VerifiedSnp
from attestation.verify.verified_gpu import VerifiedGpu
from attestation.verify.verified_tdx import VerifiedTdx


@dataclass(frozen=True, slots=True)
class VerifiedBundle:
    """Genuine evidence, and the claims it binds: these keys, this configuration, this nonce and purpose."""

    evidence: VerifiedSnp | VerifiedTdx
    devices: tuple[VerifiedGpu, ...]
    statement: Statement
    keyset: Keyset
    report_data: bytes
    device_nonce: bytes
    seal: Seal = field(repr=False, compare=False)

    def __post_init__(self) -> None:
        if self.seal is not SEAL:
            raise TypeError("VerifiedBundle is made by attestation.verify.evidence_bundle alone")
