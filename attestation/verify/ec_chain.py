"""Certificate chains of elliptic-curve keys, as Intel's and NVIDIA's roots of trust issue them.

A chain is leaf first, root last, complete and in order: nothing is searched for, fetched or skipped. The
root is known by the digest of its public key, never by its name. Time is an argument. What a leaf may say,
and whether it was revoked, is for the caller: `unrevoked` checks one certificate against one list.
"""

from __future__ import annotations

import base64
import binascii
import contextlib
import hashlib
import re
import warnings
from collections.abc import Sequence
from datetime import datetime
from typing import TypeVar

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from attestation.errors import ChainRefused, CollateralMissing, FormatRefused, Revoked, SignatureRefused
from attestation.evidence.certificates import UNREADABLE
from attestation.verify.critical_extensions import refuse_unprocessed

_PEM = re.compile(rb"-----BEGIN CERTIFICATE-----\r?\n([A-Za-z0-9+/=\r\n]+)-----END CERTIFICATE-----\r?\n?")
CERTIFICATE_BYTES_MAX = 8 * 1024

_Extension = TypeVar("_Extension", bound=x509.ExtensionType)


def spki_digest(certificate: x509.Certificate) -> bytes:
    """SHA-256 of the SubjectPublicKeyInfo: the way a root is pinned."""
    return hashlib.sha256(_public_key(certificate)).digest()


def _public_key(certificate: x509.Certificate) -> bytes:
    return certificate.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def parse_certificate(code: str, der: bytes) -> x509.Certificate:
    """One certificate with its key, names and extensions decoded: no later step can fail on them."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # a certificate the library only tolerates is one we refuse
            certificate = x509.load_der_x509_certificate(der)
            _public_key(certificate), certificate.subject, certificate.issuer, certificate.extensions
            certificate.signature_hash_algorithm, certificate.not_valid_after_utc  # noqa: B018
    except (*UNREADABLE, Warning) as error:
        raise FormatRefused(code, expected="an X.509 certificate", got=type(error).__name__) from None
    return certificate


def parse_pem_chain(code: str, pem: bytes, *, count: int) -> tuple[x509.Certificate, ...]:
    """Exactly `count` PEM certificates, at the end perhaps a blank line and a NUL, and nothing else (E62)."""
    certificates: list[x509.Certificate] = []
    at = 0
    while match := _PEM.match(pem, at):
        at = match.end()
        if len(certificates) == count or len(match[1]) > 2 * CERTIFICATE_BYTES_MAX:
            raise ChainRefused(
                code,
                expected=f"{count} certificates of a sane size",
                got=f"certificate {len(certificates) + 1} of {len(match[1])} characters",
            )
        try:
            der = base64.b64decode(match[1].translate(None, b"\r\n"), validate=True)
        except binascii.Error:
            raise ChainRefused(code, expected="base64", got=f"{len(match[1])} characters of another form") from None
        try:
            certificates.append(parse_certificate(code, der))
        except FormatRefused as refusal:  # a certificate that cannot be read leads to no root
            raise ChainRefused(code, expected=refusal.expected, got=refusal.got) from None
    if pem[at:] not in (b"", b"\0", b"\n", b"\n\0"):
        raise ChainRefused(code, expected="PEM certificates alone", got=f"other bytes at offset {at}")
    if len(certificates) != count:
        raise ChainRefused(code, expected=f"{count} certificates", got=len(certificates))
    return tuple(certificates)


def verify_chain(
    code: str,
    chain: Sequence[x509.Certificate],
    *,
    root_spki: bytes,
    at: datetime,
    late: type[ChainRefused | CollateralMissing] = ChainRefused,
) -> None:
    """Leaf first, pinned root last: names, signatures, roles, validity. `late` is how expiry is refused."""
    root = chain[-1]
    if spki_digest(root) != root_spki:
        raise ChainRefused(f"{code}.root", expected=f"root key {root_spki.hex()}", got=spki_digest(root).hex())
    for certificate, issuer in zip(chain, [*chain[1:], root], strict=True):
        _verify_issued(code, certificate, issuer)
    for below, certificate in enumerate(chain):
        _verify_role(code, certificate, below)
        _verify_time(code, certificate, at, late)


def _verify_issued(code: str, certificate: x509.Certificate, issuer: x509.Certificate) -> None:
    try:
        certificate.verify_directly_issued_by(issuer)
    except (ValueError, TypeError, InvalidSignature, UnsupportedAlgorithm) as error:
        raise ChainRefused(
            f"{code}.signature", expected=f"{_name(certificate)} signed by {_name(issuer)}", got=type(error).__name__
        ) from None


def _verify_role(code: str, certificate: x509.Certificate, below: int) -> None:
    """`below` certificates stand under this one: 0 for the leaf, and then how long a path it has to allow."""
    constraints = _extension(certificate, x509.BasicConstraints)
    is_ca = constraints is not None and constraints.ca
    if is_ca != (below > 0):
        raise ChainRefused(
            f"{code}.role",
            expected=f"{_name(certificate)} to be " + ("a CA" if below else "no CA"),
            got="no CA" if below else "a CA",
        )
    if constraints is not None and constraints.path_length is not None and constraints.path_length < below - 1:
        raise ChainRefused(f"{code}.path_length", expected=f"at least {below - 1}", got=constraints.path_length)
    usage = _extension(certificate, x509.KeyUsage)
    if usage is not None and not (usage.key_cert_sign if below else usage.digital_signature):
        raise ChainRefused(
            f"{code}.key_usage",
            expected=f"{_name(certificate)} to be allowed to sign",
            got="a key usage without signatures",
        )
    refuse_unprocessed(f"{code}.extension", certificate, _name(certificate))


def _extension(certificate: x509.Certificate, kind: type[_Extension]) -> _Extension | None:
    try:
        return certificate.extensions.get_extension_for_class(kind).value
    except x509.ExtensionNotFound:
        return None


def _verify_time(
    code: str, certificate: x509.Certificate, at: datetime, late: type[ChainRefused | CollateralMissing]
) -> None:
    start, end = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    if not start <= at <= end:
        raise late(
            f"{code}.validity",
            expected=f"{_name(certificate)} valid at {at.isoformat()}",
            got=f"{start.isoformat()} to {end.isoformat()}",
        )


def _name(certificate: x509.Certificate) -> str:
    return ascii(certificate.subject.rfc4514_string())[:120]


def key_name(key: object) -> str:
    return f"a key on {key.curve.name}" if isinstance(key, ec.EllipticCurvePublicKey) else type(key).__name__


def ec_key(code: str, certificate: x509.Certificate, curve: type[ec.EllipticCurve]) -> ec.EllipticCurvePublicKey:
    key = certificate.public_key()
    if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, curve):
        raise ChainRefused(f"{code}.key", expected=f"a key on {curve.name}", got=key_name(key))
    return key


def verify_raw_signature(
    code: str, key: ec.EllipticCurvePublicKey, signature: bytes, message: bytes, *, algorithm: hashes.HashAlgorithm
) -> None:
    """ECDSA with the signature as r and s, big-endian, one after the other."""
    half = len(signature) // 2
    r, s = (int.from_bytes(part, "big") for part in (signature[:half], signature[half:]))
    try:
        key.verify(encode_dss_signature(r, s), message, ec.ECDSA(algorithm))
    except (InvalidSignature, ValueError):
        raise SignatureRefused(
            code, expected="a signature by the stated key", got=f"{len(signature)} bytes that do not verify"
        ) from None


def parse_crl(code: str, der: bytes) -> x509.CertificateRevocationList:
    try:
        crl = x509.load_der_x509_crl(der)
        crl.issuer, crl.extensions, crl.next_update_utc, crl.signature_hash_algorithm  # noqa: B018
    except UNREADABLE as error:
        raise FormatRefused(code, expected="a certificate revocation list", got=type(error).__name__) from None
    return crl


def verify_crl(code: str, crl: x509.CertificateRevocationList, issuer: x509.Certificate, at: datetime) -> None:
    """The list is `issuer`'s, complete, and current at `at`."""
    key = issuer.public_key()
    signed = False
    if isinstance(key, ec.EllipticCurvePublicKey) and crl.issuer == issuer.subject:
        with contextlib.suppress(TypeError, ValueError, UnsupportedAlgorithm):
            signed = crl.is_signature_valid(key)
    if not signed:
        raise ChainRefused(
            f"{code}.signature", expected=f"a list signed by {_name(issuer)}", got="a signature that does not verify"
        )
    if any(extension.critical for extension in crl.extensions):  # a delta list, or one for some reasons only
        raise ChainRefused(f"{code}.extension", expected="no critical extension", got="a partial list")
    until = crl.next_update_utc
    if until is None or not crl.last_update_utc <= at <= until:
        raise CollateralMissing(
            f"{code}.validity",
            expected=f"a list current at {at.isoformat()}",
            got=f"{crl.last_update_utc.isoformat()} to {until and until.isoformat()}",
        )


def unrevoked(code: str, certificate: x509.Certificate, crl: x509.CertificateRevocationList) -> None:
    if crl.get_revoked_certificate_by_serial_number(certificate.serial_number) is not None:
        raise Revoked(
            code,
            expected=f"{_name(certificate)} not to be revoked",
            got=f"serial {certificate.serial_number:#x} in the list",
        )
