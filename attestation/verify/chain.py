"""From a report-signing certificate to a pinned root: VEK <- ASK or ASVK <- ARK.

Signatures are RSA-PSS with SHA-384, MGF1 with SHA-384, 48 bytes of salt and 4096-bit keys, whatever a
certificate says of itself. Validity in time is looked at last and apart (`refuse_outside_validity`), so
that a forgery is called a forgery even when it has also expired. Rules: docs/spec/evidence.md E20 to E29, E187.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import NameOID

from attestation.errors import ChainRefused, CollateralMissing
from attestation.evidence.certificates import UNREADABLE
from attestation.verify.critical_extensions import refuse_unprocessed
from attestation.verify.pins import SnpRoot, SnpRoots
from foundation.refusal import listed

KEY_BITS: Final = 4096
CANDIDATES_MAX: Final = 64
HASH: Final = hashes.SHA384()
PADDING: Final = padding.PSS(mgf=padding.MGF1(HASH), salt_length=48)


@dataclass(frozen=True, slots=True)
class Chain:
    """Three certificates, each signed by the next, the last one a pinned root."""

    vek: x509.Certificate
    intermediate: x509.Certificate
    ark: x509.Certificate
    ark_key: rsa.RSAPublicKey
    root: SnpRoot

    @property
    def certificates(self) -> tuple[x509.Certificate, ...]:
        return (self.vek, self.intermediate, self.ark)


def lead_to_root(vek: x509.Certificate, given: Sequence[x509.Certificate], roots: SnpRoots) -> Chain:
    """The chain from `vek` to a root of `roots`, through certificates of `given`.

    Raises `CollateralMissing` where a link is not among `given`, `ChainRefused` where it does not hold.
    """
    intermediate, _ = _issuer(vek, _candidates(vek, given, "intermediate (ASK or ASVK)"))
    ark, ark_key, root = _pinned_issuer(intermediate, given, roots)
    _require_authority(intermediate, path_length=0)
    _require_authority(ark, path_length=None)
    _require_signing_usage(ark, crl=True)
    # E22: the pin covers the key alone, so the root's dates hold only under its own signature.
    if not signed_by(ark_key, ark.signature, ark.tbs_certificate_bytes):
        raise ChainRefused(
            "chain.root.self-signature", expected="signed by its own key", got="a signature that does not verify"
        )
    for issuer in (intermediate, ark):
        refuse_unprocessed("chain.extension", issuer, common_name(issuer))
    _require_leaf(vek)
    return Chain(vek, intermediate, ark, ark_key, root)


def signed_by(key: rsa.RSAPublicKey, signature: bytes, body: bytes) -> bool:
    """Whether `signature` over `body` is the holder's of `key`, in the one algorithm AMD uses."""
    try:
        key.verify(signature, body, PADDING, HASH)
    except InvalidSignature:
        return False
    return True


def refuse_outside_validity(certificates: Iterable[x509.Certificate], at: datetime) -> datetime:
    """The end of the shortest validity; raises `CollateralMissing` where `at` is not inside one of them."""
    ends = []
    for certificate in certificates:
        start, end = certificate.not_valid_before_utc, certificate.not_valid_after_utc
        if not start <= at <= end:
            raise CollateralMissing(
                "chain.validity",
                expected=f"a time from {start:%Y-%m-%d %H:%M:%S}Z to {end:%Y-%m-%d %H:%M:%S}Z",
                got=f"{at:%Y-%m-%d %H:%M:%S}Z",
                hint=f"the certificate of {common_name(certificate)} was judged at another time",
            )
        ends.append(end)
    return min(ends)


def key_digest(key: rsa.RSAPublicKey) -> bytes:
    """SHA-256 over the SubjectPublicKeyInfo: what a root is pinned by."""
    return hashlib.sha256(key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)).digest()


def common_name(certificate: x509.Certificate) -> str:
    names = certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    return str(names[0].value)[:64] if names else "no common name"


def _candidates(subject: x509.Certificate, given: Sequence[x509.Certificate], what: str) -> list[x509.Certificate]:
    if len(given) > CANDIDATES_MAX:
        raise ChainRefused("chain.length", expected=f"<= {CANDIDATES_MAX} certificates", got=len(given))
    found = [certificate for certificate in given if certificate.subject == subject.issuer]
    if not found:
        raise CollateralMissing(
            "chain.missing",
            expected=f"the {what} named {subject.issuer.rfc4514_string()}",
            got=f"certificates for {listed(common_name(each) for each in given)}",
            hint="pass it with --chain, or a folder that holds it with --certs",
        )
    return found


def _issuer(
    subject: x509.Certificate, candidates: Sequence[x509.Certificate]
) -> tuple[x509.Certificate, rsa.RSAPublicKey]:
    # E21: several certificates may bear one name (Genoa's ASK was reissued); the signature decides.
    for candidate in candidates:
        key = _rsa_key(candidate)
        if key is not None and signed_by(key, subject.signature, subject.tbs_certificate_bytes):
            return candidate, key
    raise ChainRefused(
        "chain.signature",
        expected=f"{common_name(subject)} signed by {common_name(candidates[0])}",
        got=f"a signature that does not verify under {len(candidates)} such certificates",
    )


def _pinned_issuer(
    intermediate: x509.Certificate, given: Sequence[x509.Certificate], roots: SnpRoots
) -> tuple[x509.Certificate, rsa.RSAPublicKey, SnpRoot]:
    pinned = []
    candidates = _candidates(intermediate, given, "root (ARK)")
    for candidate in candidates:
        key = _rsa_key(candidate)
        if key is not None and key_digest(key) in roots:
            pinned.append(candidate)
    if not pinned:
        raise ChainRefused(
            "chain.root", expected="a root whose key is pinned", got=f"{common_name(candidates[0])}, another key"
        )
    ark, key = _issuer(intermediate, pinned)
    return ark, key, roots[key_digest(key)]


def _rsa_key(certificate: x509.Certificate) -> rsa.RSAPublicKey | None:
    try:
        key = certificate.public_key()
    except (ValueError, UnsupportedAlgorithm):
        return None
    return key if isinstance(key, rsa.RSAPublicKey) and key.key_size == KEY_BITS else None


def _require_authority(certificate: x509.Certificate, path_length: int | None) -> None:
    # E24: a leaf must not issue, and an intermediate issues leaves only.
    try:
        constraints = certificate.extensions.get_extension_for_class(x509.BasicConstraints)
    except (*UNREADABLE, x509.ExtensionNotFound):
        constraints = None
    if constraints is None or not constraints.critical or not constraints.value.ca:
        raise ChainRefused("chain.authority", expected="a certificate authority", got=common_name(certificate))
    if path_length is not None and constraints.value.path_length != path_length:
        raise ChainRefused("chain.path-length", expected=path_length, got=constraints.value.path_length)
    _require_signing_usage(certificate, crl=False)


def _require_signing_usage(certificate: x509.Certificate, *, crl: bool) -> None:
    try:
        usage = certificate.extensions.get_extension_for_class(x509.KeyUsage).value
    except (*UNREADABLE, x509.ExtensionNotFound):
        usage = None
    if usage is None or not usage.key_cert_sign or (crl and not usage.crl_sign):
        wanted = "certificate and list signing" if crl else "certificate signing"
        raise ChainRefused("chain.key-usage", expected=wanted, got=common_name(certificate))


def _require_leaf(vek: x509.Certificate) -> None:
    try:
        constraints = vek.extensions.get_extension_for_class(x509.BasicConstraints)
    except x509.ExtensionNotFound:
        return
    except UNREADABLE:
        raise ChainRefused("chain.leaf", expected="readable extensions", got="unreadable") from None
    if constraints.value.ca:
        raise ChainRefused("chain.leaf", expected="a leaf", got="a certificate authority")
