"""A charter of three for tests, and decisions by as many of them as a test likes."""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import sha256

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from measurements.governance.actions import Action
from measurements.governance.authority import Chartered, authority_digest
from measurements.governance.charter import Charter, Member, sign
from measurements.governance.decision import CertifiedReply, Decision, Signatures, decision_digest
from measurements.governance.history import Decided, Executed, Ledger


def key(name: str) -> Ed25519PrivateKey:
    return Ed25519PrivateKey.from_private_bytes(sha256(name.encode()).digest())


def public(name: str) -> bytes:
    return key(name).public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)


def charter(*names: str, threshold: int = 2, title: str = "keepers") -> Charter:
    members = sorted((Member(name, public(name)) for name in names), key=lambda member: member.key)
    return Charter(title, threshold, tuple(members))


KEEPERS = charter("ada", "ben", "cyd")
AUTHORITY = Chartered(KEEPERS)


def decide(ledger: Ledger, action: Action, by: Sequence[str] = ("ada", "ben")) -> Decision:
    """The next step of `ledger`, signed by those."""
    payload = ledger.next_payload(action).encode()
    statement = decision_digest(authority_digest(ledger.authority), payload)
    return Decision(payload, Signatures(dict(sign(key(name), statement) for name in by)))


def no_chain(reply: CertifiedReply, chain: object) -> Executed:
    raise AssertionError("a charter asks no chain")


def advance(ledger: Ledger, action: Action, by: Sequence[str] = ("ada", "ben")) -> tuple[Ledger, Decided]:
    return ledger.advance(decide(ledger, action, by), no_chain)
