"""A delegation: the root subnet's certificate that a subnet has a key, and which canisters it speaks for.

One level deep, always signed by the root. A subnet's id does not prove its key (subnets get new keys); only
the root's word does. Verified ones may be kept in a `DelegationCache`, so that the next certificate of the
same subnet costs one signature check and not two.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import InitVar, dataclass, field
from hashlib import sha256
from typing import Final

from attestation.consensus import bls, principal
from attestation.consensus.certified_time import parse_time
from attestation.consensus.hashtree import Found, HashTree, lookup
from attestation.consensus.refusals import BlsRefused, DelegationRefused, EncodingRefused

_STATE_ROOT: Final = b"\x0dic-state-root"
_VERIFIER: Final = object()


@dataclass(frozen=True, slots=True)
class Delegation:
    """Parsed, not believed."""

    subnet: bytes
    tree: HashTree = field(repr=False)
    signature: bytes = field(repr=False)
    encoded: bytes = field(repr=False)  # the inner certificate as it came


@dataclass(frozen=True, slots=True)
class VerifiedDelegation:
    """The root signed it. Made by `verify_delegation` alone."""

    subnet: bytes
    public_key: bytes
    tree: HashTree = field(repr=False)
    time_ns: int | None
    verifier: InitVar[object]

    def __post_init__(self, verifier: object) -> None:
        if verifier is not _VERIFIER:
            raise TypeError("a VerifiedDelegation comes from verify_delegation")


class DelegationCache:
    """The delegations last verified, by digest of root key, subnet and the delegation's own bytes."""

    def __init__(self, entries_max: int = 16) -> None:
        if entries_max < 1:
            raise ValueError(f"a cache holds at least one delegation, got {entries_max}")
        self._entries_max = entries_max
        self._kept: OrderedDict[bytes, VerifiedDelegation] = OrderedDict()

    def __len__(self) -> int:
        return len(self._kept)

    def get(self, key: bytes) -> VerifiedDelegation | None:
        found = self._kept.get(key)
        if found is not None:
            self._kept.move_to_end(key)
        return found

    def keep(self, key: bytes, verified: VerifiedDelegation) -> None:
        self._kept[key] = verified
        self._kept.move_to_end(key)
        if len(self._kept) > self._entries_max:
            self._kept.popitem(last=False)


def verify_delegation(
    delegation: Delegation, root_key: bytes, cache: DelegationCache | None = None
) -> VerifiedDelegation:
    """Raises `DelegationRefused` unless the root key signed it and it shows the subnet's key.

    Says nothing about any canister: that is `ranges.check_canister`, on the verified tree.
    """
    if cache is None:
        return _verify(delegation, root_key)
    key = _cache_key(delegation, root_key)
    kept = cache.get(key)
    if kept is None:
        kept = _verify(delegation, root_key)
        cache.keep(key, kept)
    return kept


def _verify(delegation: Delegation, root_key: bytes) -> VerifiedDelegation:
    try:
        bls.verify(root_key, delegation.signature, signed_bytes(delegation.tree))
    except BlsRefused as refusal:
        raise DelegationRefused(
            f"delegation.{refusal.code}", expected="a delegation signed by the root key", got=refusal.got
        ) from refusal
    shown = lookup(delegation.tree, (b"subnet", delegation.subnet, b"public_key"))
    if not isinstance(shown, Found):
        raise DelegationRefused(
            "delegation.key",
            expected=f"a public key for subnet {principal.to_text(delegation.subnet)}",
            got=type(shown).__name__.lower(),
        )
    try:
        public_key = bls.check_public_key(bls.public_key_from_der(shown.value))
    except (EncodingRefused, BlsRefused) as refusal:
        raise DelegationRefused(f"delegation.{refusal.code}", expected=refusal.expected, got=refusal.got) from refusal
    time = lookup(delegation.tree, (b"time",))
    return VerifiedDelegation(
        subnet=delegation.subnet,
        public_key=public_key,
        tree=delegation.tree,
        time_ns=parse_time(time.value) if isinstance(time, Found) else None,
        verifier=_VERIFIER,
    )


def signed_bytes(tree: HashTree) -> bytes:
    """What a subnet signs for a state tree."""
    return _STATE_ROOT + tree.digest


def _cache_key(delegation: Delegation, root_key: bytes) -> bytes:
    digest = sha256()
    for part in (root_key, delegation.subnet, delegation.encoded):
        digest.update(len(part).to_bytes(8, "big") + part)
    return digest.digest()
