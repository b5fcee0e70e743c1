"""Certificates in PEM, before any of them is believed (docs/spec/evidence-tdx.md E62)."""

from __future__ import annotations

import base64

import pytest

from attestation.errors import ChainRefused, FormatRefused
from attestation.evidence.certificates import read_certificates
from attestation.verify.ec_chain import CERTIFICATE_BYTES_MAX, parse_certificate, parse_pem_chain
from tests.unit.attestation.forge_tdx import issue


def pem(body: bytes) -> bytes:
    return b"-----BEGIN CERTIFICATE-----\n" + body + b"\n-----END CERTIFICATE-----\n"


SOUND = pem(base64.b64encode(issue("any", None, ca=1).der))


def test_a_chain_has_as_many_certificates_as_were_asked_for() -> None:
    assert len(parse_pem_chain("c", SOUND * 2, count=2)) == 2
    with pytest.raises(ChainRefused, match=r"a sane size, got certificate 3 of \d+ characters"):
        parse_pem_chain("c", SOUND * 3, count=2)
    with pytest.raises(ChainRefused):
        parse_pem_chain("c", SOUND, count=2)


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b"A" * (2 * CERTIFICATE_BYTES_MAX), "of a sane size"),
        (b"A" * (2 * CERTIFICATE_BYTES_MAX - 4), "an X.509 certificate"),
        (b"A", "expected base64"),
        (b"AAAA=AAA", "expected base64"),
        (b"AAAA", "an X.509 certificate"),
    ],
)
def test_what_is_no_certificate_leads_to_no_root(body: bytes, expected: str) -> None:
    with pytest.raises(ChainRefused, match=expected):
        parse_pem_chain("c", pem(body), count=1)


def test_a_name_of_another_type_of_string_is_malformed() -> None:
    """The library raises TypeError for a BIT STRING in a name: still nothing but the declared refusal comes out."""
    sound = issue("any", None, ca=1).der
    bent = sound.replace(b"\x0c\x03any", b"\x03\x03any")
    assert bent != sound
    with pytest.raises(FormatRefused):
        parse_certificate("c", bent)
    with pytest.raises(FormatRefused):
        read_certificates(bent)


def test_a_certificate_has_a_bound() -> None:
    assert CERTIFICATE_BYTES_MAX == 8192
    with pytest.raises(FormatRefused):
        parse_certificate("c", bytes(CERTIFICATE_BYTES_MAX + 1))
