"""The decision log: what was granted, denied and administered, each entry chained to the one before and signed.

    entry  = dCBOR [1, position, previous digest, time (ns), kind, {name: value}]
    digest = SHA-256(tag anchorhold/broker/log/entry/v1, entry)      signed by the broker's key

`verify` finds an entry that was changed, left out, added or put elsewhere. That the *end* was cut off shows only
against something outside the store: the digest a grant carried, or one written down earlier (key-release.md R21).
No entry holds a secret, wrapped or not.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final, Self

from attestation.broker.errors import LogRefused
from foundation import cbor, ed25519
from foundation.digests import tagged_sha256
from foundation.ed25519 import Signer
from foundation.refusal import difference, outline

VERSION: Final = 1
ENTRY_TAG: Final = "anchorhold/broker/log/entry/v1"
GENESIS_TAG: Final = "anchorhold/broker/log/genesis/v1"
SIGNATURE_TAG: Final = "anchorhold/broker/log/signature/v1"
ENTRY_BYTES_MAX: Final = 64 * 1024
_LIMITS: Final = cbor.Limits(bytes_max=ENTRY_BYTES_MAX, depth_max=4, items_max=1024)

Details = Mapping[str, "str | bytes | int"]


@dataclass(frozen=True, slots=True)
class Entry:
    position: int
    previous: bytes
    time_ns: int
    kind: str
    details: Details

    def encode(self) -> bytes:
        return cbor.encode([VERSION, self.position, self.previous, self.time_ns, self.kind, dict(self.details)])

    @property
    def digest(self) -> bytes:
        return tagged_sha256(ENTRY_TAG, self.encode())

    @classmethod
    def parse(cls, raw: bytes) -> Self:
        """Raises `LogRefused`, nothing else."""
        try:
            value = cbor.decode(raw, _LIMITS)
        except cbor.CborRefused as refusal:
            raise LogRefused("log.entry", expected=refusal.expected, got=refusal.got) from refusal
        match value:
            case [1, int(position), bytes(previous), int(time_ns), str(kind), dict() as details]:
                found = {
                    name: part
                    for name, part in details.items()
                    if isinstance(name, str) and isinstance(part, str | bytes | int)
                }
                entry = cls(position, previous, time_ns, kind, found)
            case _:
                raise LogRefused("log.entry", expected="an entry of version 1", got=outline(value))
        if entry.encode() != raw:
            raise LogRefused("log.entry", expected="its own encoding", got=difference(raw, entry.encode()))
        return entry


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
        if not ed25519.holds(public, signature, tagged_sha256(SIGNATURE_TAG, raw)):
            wanted = f"{place} signed by the broker {public.hex()}"
            raise LogRefused("log.signature", expected=wanted, got="a signature that does not verify")
        head = Head(entry.position, entry.digest)
        if expected.pop(entry.position, entry.digest) != entry.digest:
            raise LogRefused("log.fork", expected=f"{place} as it was seen before", got=f"entry {entry.digest.hex()}")
    if expected and (missing := max(expected)) > 0:
        raise LogRefused("log.short", expected=f"at least {missing} entries", got=head.position)
    return head
