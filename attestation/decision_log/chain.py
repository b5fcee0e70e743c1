"""A whole decision log: every entry chained to the one before, and signed by the broker.

`verify` finds an entry that was changed, left out, added or put elsewhere. That the *end* was cut off shows only
against something outside the store: the digest a grant carried, or one written down earlier (key-release.md R21).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from attestation.decision_log.codec import Entry
from attestation.decision_log.errors import LogRefused
from foundation import ed25519
from foundation.digests import tagged_sha256
from foundation.ed25519 import Signer

GENESIS_TAG: Final = "anchorhold/broker/log/genesis/v1"
SIGNATURE_TAG: Final = "anchorhold/broker/log/signature/v1"


@dataclass(frozen=True, slots=True)
class Head:
    """How far a log goes: the position of its last entry (0: none) and the digest of it."""

    position: int
    digest: bytes


def genesis(public: bytes) -> Head:
    """The head of an empty log of the broker with this key: no other broker's entries fit behind it."""
    return Head(0, tagged_sha256(GENESIS_TAG, public))


def sign(entry: Entry, signer: Signer) -> bytes:
    return signer.sign(tagged_sha256(SIGNATURE_TAG, entry.encode()))


def is_signed(raw: bytes, signature: bytes, public: bytes) -> bool:
    """Whether the broker with this key signed the entry of these bytes."""
    return ed25519.holds(public, signature, tagged_sha256(SIGNATURE_TAG, raw))


def verify(entries: Iterable[tuple[bytes, bytes]], public: bytes, known: Iterable[Head] = ()) -> Head:
    """Walk (entry, signature) from the beginning. Raises `LogRefused` at the first that does not fit.

    `known` are heads seen earlier, each of which must lie on the way: so that an end cut off is noticed.
    """
    expected = {head.position: head.digest for head in known}
    head = genesis(public)
    for raw, signature in entries:
        entry = Entry.parse(raw)
        place = f"entry {head.position + 1}"
        if (entry.position, entry.previous) != (head.position + 1, head.digest):
            raise LogRefused("log.chain", expected=f"{place} behind the one before it", got=f"entry {entry.position}")
        if not is_signed(raw, signature, public):
            wanted = f"{place} signed by the broker {public.hex()}"
            raise LogRefused("log.signature", expected=wanted, got="a signature that does not verify")
        head = Head(entry.position, entry.digest)
        if expected.pop(entry.position, entry.digest) != entry.digest:
            raise LogRefused("log.fork", expected=f"{place} as it was seen before", got=f"entry {entry.digest.hex()}")
    if expected and (missing := max(expected)) > 0:
        raise LogRefused("log.short", expected=f"at least {missing} entries", got=head.position)
    return head
