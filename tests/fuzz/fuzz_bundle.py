"""Invariant: whatever the bytes, a bundle parses or is refused with FormatRefused; a parsed one encodes to
exactly the bytes it came from; judging it ends in a verified bundle or in EvidenceRefused; and a verified one
claims nothing that the simulated cell of the seeds did not claim.
"""

from __future__ import annotations

import base64

from attestation.errors import EvidenceRefused, FormatRefused
from attestation.evidence.evidence_bundle import EvidenceBundle
from attestation.verify.evidence_bundle import verify_bundle
from devnet.tee import SimulatedTee, identity_bundle, release_bundle
from tests.little_tee import AT, CONFIG, KEYSET, NONCE, snp_platform, snp_tee, tdx_platform, tdx_tee

_KEY = {"crv": "P-256", "kty": "EC", "x": "AAAA", "y": "BBBB"}


def _release(tee: SimulatedTee) -> EvidenceBundle:
    return release_bundle(tee, base64.b64encode(NONCE).decode(), _KEY, KEYSET, measured_config=CONFIG)


SEEDS: list[bytes] = [
    make(tee).encode()
    for tee in (snp_tee(), tdx_tee())
    for make in (_release, lambda tee: identity_bundle(tee, NONCE, KEYSET, CONFIG))
] + [b"", b"\xa0", b"\xa1\x67version\x01"]
_ROOTS = (snp_platform().ark.der, tdx_platform().root.der)


def one_input(data: bytes) -> None:
    try:
        bundle = EvidenceBundle.parse(data)
    except FormatRefused:
        return
    assert bundle.encode() == data
    for root in _ROOTS:
        try:
            verified = verify_bundle(bundle, at=AT, simulated_root=root)
        except EvidenceRefused:
            continue
        assert (verified.keyset, verified.statement.nonce) == (KEYSET, NONCE)
        assert verified.statement.measured_config == CONFIG
        assert verified.devices == ()
