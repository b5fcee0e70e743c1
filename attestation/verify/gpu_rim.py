"""Is a reference integrity manifest NVIDIA's? The digest, the signature over it, and the chain it carries.

One profile of XML signatures is accepted (`attestation.evidence.gpu_rim`), and what is verified is the tree
the measurements were read from. What this does NOT establish: that the manifest was not withdrawn since it
was signed. docs/spec/evidence-gpu.md E103.
"""

from __future__ import annotations

import hashlib
import hmac
from datetime import datetime
from typing import Final

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec

from attestation.errors import ChainRefused, CollateralMissing, FormatRefused, SignatureRefused
from attestation.evidence.gpu_rim import GpuRim
from attestation.verify.ec_chain import ec_key, parse_certificate, verify_chain, verify_raw_signature
from attestation.verify.verified import SEAL
from attestation.verify.verified_gpu import VerifiedRim

NVIDIA_RIM_ROOT_SPKI: Final = bytes.fromhex("dec1dc316477aa851eebdf51327ae9f864bc8d89254657ed1e7eb9168af1e1a3")
_CHAIN_LENGTH: Final = 4


def verify_rim(rim: GpuRim, *, at: datetime, root_spki: bytes = NVIDIA_RIM_ROOT_SPKI) -> VerifiedRim:
    """Verify `rim` as of `at`. Expired is missing collateral: a newer manifest has to be brought."""
    if len(rim.certificates) != _CHAIN_LENGTH:
        raise ChainRefused("gpu.rim.chain", expected=f"{_CHAIN_LENGTH} certificates", got=len(rim.certificates))
    try:
        chain = [parse_certificate("gpu.rim.chain", der) for der in rim.certificates]
    except FormatRefused as refusal:
        raise ChainRefused(refusal.code, expected=refusal.expected, got=refusal.got) from None
    verify_chain("gpu.rim.chain", chain, root_spki=root_spki, at=at, late=CollateralMissing)
    digest = hashlib.sha384(rim.document).digest()
    if not hmac.compare_digest(digest, rim.document_digest):
        raise SignatureRefused("gpu.rim.digest", expected="the digest that was signed", got=digest.hex())
    key = ec_key("gpu.rim.chain", chain[0], ec.SECP384R1)
    verify_raw_signature("gpu.rim.signature", key, rim.signature, rim.signed_info, algorithm=hashes.SHA384())
    return VerifiedRim(rim.product, rim.version, rim.tag_id, rim.measurements, SEAL)
