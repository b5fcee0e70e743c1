"""Verifying and refusing a certificate of the little subnet."""

from __future__ import annotations

import pytest

from attestation.consensus.certificate import VerifiedCertificate, parse_certificate, verify_certificate
from attestation.consensus.delegation import DelegationCache
from attestation.consensus.refusals import ConsensusRefused
from tests.little_subnet import CANISTER, ROOT

CERTIFIED_DATA = (b"canister", CANISTER, b"certified_data")


def verify(
    data: bytes,
    *,
    root: bytes | None = None,
    canister: bytes | None = CANISTER,
    subnet: bytes | None = None,
    kept: DelegationCache | None = None,
) -> VerifiedCertificate:
    key = ROOT.public_key if root is None else root
    return verify_certificate(parse_certificate(data), root_key=key, canister=canister, subnet=subnet, cache=kept)


def refusal(data: bytes, kind: type[ConsensusRefused], **how: bytes | None) -> str:
    with pytest.raises(kind) as caught:
        verify(data, **how)  # type: ignore[arg-type]
    return caught.value.code
