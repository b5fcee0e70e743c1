"""Revocation lists: signed by the chain's root, silent about its certificates, and fresh.

AMD's lists are signed by the ARK and speak for the whole product, so one list covers the intermediate and
the report-signing key. An entry condemns whatever the list's age; only silence needs a fresh list.
Rules: docs/spec/evidence.md E30 to E35.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from cryptography import x509

from attestation.errors import ChainRefused, CollateralMissing, Revoked
from attestation.evidence.certificates import UNREADABLE, serial_number
from attestation.verify.chain import Chain, common_name, signed_by
from attestation.verify.verified import Revocation


def lists_for(
    chain: Chain, given: Sequence[x509.CertificateRevocationList]
) -> tuple[x509.CertificateRevocationList, ...]:
    """Those of `given` that the chain's root issued, each with its signature checked; others do not apply."""
    found = tuple(crl for crl in given if crl.issuer == chain.ark.subject)
    for crl in found:
        if not signed_by(chain.ark_key, crl.signature, crl.tbs_certlist_bytes):
            raise ChainRefused(
                "crl.signature", expected=f"signed by {chain.root.anchor.name}", got="a signature that does not verify"
            )
        _refuse_partial(crl)
    return found


def refuse_revoked(chain: Chain, lists: Sequence[x509.CertificateRevocationList]) -> None:
    """Raises `Revoked` where a list names a certificate of the chain, however old the list is (E33)."""
    for crl in lists:
        for certificate in (chain.vek, chain.intermediate):
            entry = crl.get_revoked_certificate_by_serial_number(serial_number(certificate))
            if entry is not None:
                raise Revoked(
                    "crl.revoked",
                    expected=f"{common_name(certificate)} not on the list of {chain.root.anchor.name}",
                    got=f"serial {entry.serial_number:#x}, revoked {entry.revocation_date_utc:%Y-%m-%d}",
                )


def freshness(lists: Sequence[x509.CertificateRevocationList], at: datetime) -> tuple[Revocation, datetime | None]:
    """What is known about revocation at `at`, and until when; raises `CollateralMissing` if all are stale."""
    if not lists:
        return Revocation.UNKNOWN, None
    fresh = [end for crl in lists if (end := crl.next_update_utc) and crl.last_update_utc <= at < end]
    if not fresh:
        newest = max(lists, key=lambda crl: crl.last_update_utc)
        raise CollateralMissing(
            "crl.stale",
            expected=f"a list in force at {at:%Y-%m-%d %H:%M:%S}Z",
            got=f"one from {newest.last_update_utc:%Y-%m-%d} to {newest.next_update_utc or 'no stated end'}",
            hint="fetch the current list, or leave it out and let the policy decide",
        )
    return Revocation.FRESH, max(fresh)


def _refuse_partial(crl: x509.CertificateRevocationList) -> None:
    # E32: a delta list or one of limited scope says so in a critical extension, and is silent about the rest.
    try:
        critical = [extension.oid.dotted_string for extension in crl.extensions if extension.critical]
    except UNREADABLE:
        critical = ["unreadable"]
    if critical:
        raise ChainRefused("crl.scope", expected="a full list", got=f"critical extension {critical[0]}")
