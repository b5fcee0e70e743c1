"""One certificate chain judged twice: by our rules for chains alone, and by OpenSSL.

A verdict is empty where the chain is accepted. Ours is the code of the refusal, OpenSSL's are its words. The code of a
chain of elliptic-curve keys stands without the chain's own name: `.role`.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from cryptography import x509

from attestation.errors import EvidenceRefused
from attestation.evidence.vek import Vek
from attestation.verify.chain import lead_to_root, refuse_outside_validity
from attestation.verify.crl import freshness, lists_for, refuse_revoked
from attestation.verify.ec_chain import unrevoked, verify_chain, verify_crl
from attestation.verify.openssl_opinion import AskedChain, opinion_of
from attestation.verify.pins import AMD_ROOTS, SnpRoots

SECOND = timedelta(seconds=1)


@dataclass(frozen=True)
class Verdicts:
    ours: str
    theirs: str

    @property
    def agree(self) -> bool:
        """Whether both accept the chain, or both refuse it."""
        return bool(self.ours) == bool(self.theirs)


def judge_amd(
    vek: x509.Certificate,
    given: Sequence[x509.Certificate],
    lists: Sequence[x509.CertificateRevocationList],
    at: datetime,
    roots: SnpRoots = AMD_ROOTS,
) -> Verdicts:
    """evidence.md E15, E20 to E35: what is asked of a chain and its lists, without a report."""
    certificates = tuple(_by_name(vek, given))
    try:
        chain = lead_to_root(vek, given, roots)
        certificates = chain.certificates
        applying = lists_for(chain, lists)
        refuse_revoked(chain, applying)
        refuse_outside_validity(chain.certificates, at)
        freshness(applying, at)
        Vek.of(vek)
        ours = ""
    except EvidenceRefused as refusal:
        ours = refusal.code
    asked = AskedChain("VEK", certificates, roots.keys(), tuple(lists))
    return Verdicts(ours, opinion_of(asked, at).refused)


def judge_ec(
    chain: Sequence[x509.Certificate], root_spki: bytes, lists: Sequence[x509.CertificateRevocationList], at: datetime
) -> Verdicts:
    """evidence-tdx.md E67 and E69: a chain, and those of `lists` that an issuer of the chain made."""
    try:
        verify_chain("ec", chain, root_spki=root_spki, at=at)
        for subject, issuer in itertools.pairwise(chain):
            for one in (each for each in lists if each.issuer == issuer.subject):
                verify_crl("ec.crl", one, issuer, at)
                unrevoked("ec.revoked", subject, one)
        ours = ""
    except EvidenceRefused as refusal:
        ours = refusal.code.removeprefix("ec")
    return Verdicts(ours, opinion_of(AskedChain("EC", tuple(chain), [root_spki], tuple(lists)), at).refused)


def _by_name(leaf: x509.Certificate, given: Sequence[x509.Certificate]) -> Iterator[x509.Certificate]:
    """The chain that the names alone give, to the first certificate that names itself: for one that does not hold."""
    at: x509.Certificate | None = leaf
    for _ in range(4):
        if at is None:
            return
        yield at
        if at.issuer == at.subject:
            return
        issuer = at.issuer
        at = next((each for each in given if each.subject == issuer), None)


def moments(
    certificates: Sequence[x509.Certificate], lists: Sequence[x509.CertificateRevocationList] = ()
) -> Iterator[datetime]:
    """Every moment at which a verdict may turn, with the seconds before and behind it."""
    turns = {each.not_valid_before_utc for each in certificates} | {each.not_valid_after_utc for each in certificates}
    turns |= {each.last_update_utc for each in lists}
    turns |= {each.next_update_utc for each in lists if each.next_update_utc}
    for turn in sorted(turns):
        yield turn - SECOND
        yield turn
        if turn < datetime.max.replace(tzinfo=UTC) - 2 * SECOND:
            yield turn + SECOND
