"""Certificates of the simulated TEE: keys made from a seed, and roots named as simulated.

Every subject carries `SIMULATED`, so that a person who opens one knows; what keeps it out of production is
not the name but the root key, which is pinned by no policy and made anew for every devnet.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import datetime

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from foundation.digests import domain

ORGANIZATION = "SIMULATED - NOT A HARDWARE VENDOR"
SEED_TAG = "anchorhold/devnet/seed/v1"
RSA_BITS = 4096

PrivateKey = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey


@dataclass(frozen=True, slots=True)
class Validity:
    """From when to when everything of one devnet holds."""

    start: datetime
    end: datetime


@dataclass(frozen=True, slots=True)
class Authority:
    """A certificate and the key behind it."""

    certificate: x509.Certificate
    key: PrivateKey

    @property
    def der(self) -> bytes:
        return self.certificate.public_bytes(Encoding.DER)

    @property
    def pem(self) -> str:
        return self.certificate.public_bytes(Encoding.PEM).decode()


def derived(seed: bytes, *labels: str, size: int = 32) -> bytes:
    """Bytes that follow from the seed, a different stream for every label."""
    context = b"".join(domain(label) for label in labels)
    return hashlib.shake_256(domain(SEED_TAG) + len(seed).to_bytes(2, "big") + seed + context).digest(size)


def derived_key(seed: bytes, curve: ec.EllipticCurve, *labels: str) -> ec.EllipticCurvePrivateKey:
    """A private key that follows from the seed. For a simulation only: whoever has the seed has the key."""
    bits = int.from_bytes(derived(seed, *labels, size=curve.key_size // 8 + 16), "big")
    return ec.derive_private_key(bits % (curve.group_order - 1) + 1, curve)


def new_rsa_key() -> rsa.RSAPrivateKey:
    """RSA primes cannot follow from a seed here; this takes about a second."""
    return rsa.generate_private_key(public_exponent=65537, key_size=RSA_BITS)


def subject(common_name: str) -> x509.Name:
    return x509.Name(
        [
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, ORGANIZATION),
            x509.NameAttribute(NameOID.COMMON_NAME, common_name),
        ]
    )


def pss(digest: hashes.HashAlgorithm) -> padding.PSS:
    return padding.PSS(mgf=padding.MGF1(digest), salt_length=digest.digest_size)


def sign_certificate(builder: x509.CertificateBuilder, key: PrivateKey) -> x509.Certificate:
    """RSA-PSS with SHA-384 as AMD's, or deterministic ECDSA with SHA-256 as Intel's."""
    if isinstance(key, rsa.RSAPrivateKey):
        return builder.sign(key, hashes.SHA384(), rsa_padding=pss(hashes.SHA384()))
    return builder.sign(key, hashes.SHA256(), ecdsa_deterministic=True)


def revocation_list(issuer: Authority, validity: Validity, revoked: tuple[int, ...] = (), number: int = 1) -> bytes:
    """A CRL in DER; `revoked` are serial numbers."""
    builder = (
        x509.CertificateRevocationListBuilder()
        .issuer_name(issuer.certificate.subject)
        .last_update(validity.start)
        .next_update(validity.end)
        .add_extension(x509.CRLNumber(number), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer.key.public_key()), False)
    )
    for serial in revoked:
        builder = builder.add_revoked_certificate(
            x509.RevokedCertificateBuilder().serial_number(serial).revocation_date(validity.start).build()
        )
    if isinstance(issuer.key, rsa.RSAPrivateKey):
        signed = builder.sign(issuer.key, hashes.SHA384(), rsa_padding=pss(hashes.SHA384()))
    else:
        signed = builder.sign(issuer.key, hashes.SHA256(), ecdsa_deterministic=True)
    return signed.public_bytes(Encoding.DER)


def ecdsa_pair(key: ec.EllipticCurvePrivateKey, message: bytes, digest: hashes.HashAlgorithm) -> tuple[int, int]:
    """A deterministic signature (RFC 6979) as its two numbers."""
    return decode_dss_signature(key.sign(message, ec.ECDSA(digest, deterministic_signing=True)))
