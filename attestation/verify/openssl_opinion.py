"""What OpenSSL says of certificate chains: a second opinion beside ours, for whoever verifies outside the image.

    require_openssl(tdx_chains(quote, collateral, verified.root), at)

OpenSSL walks each chain itself, at the stated time: names, signatures, authority, path lengths, unknown critical
extensions, validity, revocation. A chain that we believe and OpenSSL does not is refused as `chain.second-opinion`.
Where we are stricter than OpenSSL is a table: docs/spec/evidence.md E183 to E186.

What it does not establish: that a root is one to believe (the pins are ours), anything of a report, or that the
arithmetic is right: `cryptography`, which our own verifier uses, computes with the same library.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from cryptography import x509
from OpenSSL import crypto

from attestation.errors import NotGenuine
from attestation.verify.ec_chain import spki_digest

# E183: the root's own signature is checked too, as ours does. Strict mode (RFC 5280's rules for issuers) is off: AMD's
# certificates have no authority key identifier.
_WALK: Final = crypto.X509StoreFlags.CHECK_SS_SIGNATURE
_REVOCATION: Final = _WALK | crypto.X509StoreFlags.CRL_CHECK


@dataclass(frozen=True, slots=True)
class AskedChain:
    """A chain to ask about, leaf first; `pins` are the digests of the root keys to believe."""

    name: str
    certificates: tuple[x509.Certificate, ...]
    pins: Collection[bytes]
    lists: tuple[x509.CertificateRevocationList, ...] = ()


@dataclass(frozen=True, slots=True)
class ChainOpinion:
    """What OpenSSL says of one chain. `refused` is empty where it accepts the chain."""

    name: str
    refused: str


def opinion_of(asked: AskedChain, at: datetime) -> ChainOpinion:
    """E183, E184: the chain as a whole, then each certificate under the lists of its own issuer, if there are any."""
    try:
        refused = _walk(asked, 0, (), at)
        for place, certificate in enumerate(asked.certificates[:-1]):
            lists = tuple(each for each in asked.lists if each.issuer == certificate.issuer)
            if lists and not refused:
                refused = _walk(asked, place, lists, at)
    except crypto.Error:
        refused = "OpenSSL cannot read it"
    return ChainOpinion(asked.name, refused)


def require_openssl(chains: Iterable[AskedChain], at: datetime) -> tuple[ChainOpinion, ...]:
    """For chains that our own verifier accepted at `at`: raises `NotGenuine` where OpenSSL refuses one (E185)."""
    opinions = tuple(opinion_of(asked, at) for asked in chains)
    for opinion in opinions:
        if opinion.refused:
            raise NotGenuine(
                "chain.second-opinion",
                expected=f"OpenSSL to accept this chain too: {opinion.name}",
                got=opinion.refused,
            )
    return opinions


def _walk(asked: AskedChain, place: int, lists: Sequence[x509.CertificateRevocationList], at: datetime) -> str:
    """OpenSSL's reason against the certificate at `place`, counted from the leaf, or against an issuer; or empty."""
    store = crypto.X509Store()
    for certificate in asked.certificates:
        if spki_digest(certificate) in asked.pins:
            store.add_cert(crypto.X509.from_cryptography(certificate))
    for each in lists:
        store.add_crl(each)
    store.set_flags(_REVOCATION if lists else _WALK)
    store.set_time(at.astimezone(UTC))
    leaf, *others = (crypto.X509.from_cryptography(certificate) for certificate in asked.certificates[place:])
    try:
        crypto.X509StoreContext(store, leaf, others).verify_certificate()
    except crypto.X509StoreContextError as error:
        _, depth, reason = error.errors
        return f"{reason}, at depth {place + depth}"
    return ""
