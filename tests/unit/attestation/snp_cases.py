"""Sound SNP evidence with one certificate exchanged, and the refusal of it."""

from __future__ import annotations

import pytest
from cryptography import x509

from attestation.errors import EvidenceRefused
from attestation.evidence.snp_report import KeyKind, Product
from tests.unit.attestation.forge import Case, Forge

GENOA = Forge()
TURIN = Forge(Product.TURIN)
BOTH = pytest.mark.parametrize("kind", [KeyKind.VCEK, KeyKind.VLEK])


def refused(case: Case, family: type[EvidenceRefused], code: str) -> EvidenceRefused:
    with pytest.raises(EvidenceRefused) as caught:
        case.verify()
    assert (type(caught.value), caught.value.code) == (family, code), caught.value
    return caught.value


def with_vek(vek: x509.Certificate, kind: KeyKind = KeyKind.VCEK) -> Case:
    case = GENOA.case(kind)
    case.vek = vek
    return case
