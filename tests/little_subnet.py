"""A root and a subnet of our own with real BLS keys, for tests of what verifies certificates.

It signs whatever it is told to, well or badly: that is its use.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TypeAlias, Union

from py_arkworks_bls12381 import G1Point, G2Point, Scalar

from attestation.consensus.bls import public_key_to_der
from attestation.consensus.hashtree import Empty, Fork, HashTree, Labeled, Leaf, Pruned, siblings, to_cbor
from foundation import leb128
from foundation.cbor import SELF_DESCRIBED, Encodable, Tag, encode

DST = b"BLS_SIG_BLS12381G1_XMD:SHA-256_SSWU_RO_NUL_"
STATE_ROOT = b"\x0dic-state-root"

Shape: TypeAlias = Union[bytes, "Mapping[bytes, Shape]"]

NOW_NS = 1_700_000_000_000_000_000
CANISTER = bytes.fromhex("00000000003000050101")
SUBNET = bytes(range(28)) + b"\x02"


@dataclass(frozen=True)
class Signer:
    secret: int

    @property
    def public_key(self) -> bytes:
        return bytes((G2Point() * Scalar(self.secret)).to_compressed_bytes())

    @property
    def der(self) -> bytes:
        return public_key_to_der(self.public_key)

    def sign(self, message: bytes) -> bytes:
        return bytes((G1Point.hash_to_curve(message, DST) * Scalar(self.secret)).to_compressed_bytes())


ROOT = Signer(0x1234_5678_9ABC_DEF0)
SUBNET_SIGNER = Signer(0x0FED_CBA9_8765_4321)


def grow(shape: Shape) -> HashTree:
    """A whole tree of a nested mapping: sorted labels, balanced forks."""
    if isinstance(shape, bytes):
        return Leaf(shape)
    return _balance([Labeled(label, grow(shape[label])) for label in sorted(shape)])


def _balance(nodes: list[Labeled]) -> HashTree:
    if not nodes:
        return Empty()
    if len(nodes) == 1:
        return nodes[0]
    middle = (len(nodes) + 1) // 2
    return Fork(_balance(nodes[:middle]), _balance(nodes[middle:]))


def prune(tree: HashTree, keep: Callable[[tuple[bytes, ...]], bool], path: tuple[bytes, ...] = ()) -> HashTree:
    """`tree` with every labelled node pruned whose path `keep` refuses."""
    match tree:
        case Fork():
            return Fork(prune(tree.left, keep, path), prune(tree.right, keep, path))
        case Labeled():
            below = (*path, tree.label)
            return Labeled(tree.label, prune(tree.tree, keep, below)) if keep(below) else Pruned(tree.digest)
        case _:
            return tree


def ranges(*pairs: tuple[bytes, bytes], tagged: bool = True) -> bytes:
    value: list[Encodable] = [[low, high] for low, high in pairs]
    return encode(Tag(SELF_DESCRIBED, value)) if tagged else encode(value)


RANGE = (bytes.fromhex("00000000003000000101"), bytes.fromhex("00000000003fffff0101"))


def certificate_bytes(tree: HashTree, signer: Signer, delegation: bytes | None = None, subnet: bytes = SUBNET) -> bytes:
    value: dict[str, Encodable] = {"tree": to_cbor(tree), "signature": signer.sign(STATE_ROOT + tree.digest)}
    if delegation is not None:
        value["delegation"] = {"subnet_id": subnet, "certificate": delegation}
    return encode(Tag(SELF_DESCRIBED, value))


def flat_delegation(
    listed: bytes | None = None, *, subnet: bytes = SUBNET, der: bytes = SUBNET_SIGNER.der, root: Signer = ROOT
) -> bytes:
    """The root's word on the subnet, ranges in the older layout."""
    below: dict[bytes, Shape] = {b"public_key": der}
    below[b"canister_ranges"] = ranges(RANGE) if listed is None else listed
    return certificate_bytes(grow({b"subnet": {subnet: below}, b"time": leb128.unsigned(NOW_NS)}), root)


def sharded_delegation(
    shards: Mapping[bytes, Shape], *, flat: bytes | None = None, subnet: bytes = SUBNET, root: Signer = ROOT
) -> bytes:
    """The same in the newer layout, with the older beside it if `flat` is given."""
    below: dict[bytes, Shape] = {b"public_key": SUBNET_SIGNER.der}
    if flat is not None:
        below[b"canister_ranges"] = flat
    return certificate_bytes(
        grow({b"canister_ranges": {subnet: shards}, b"subnet": {subnet: below}, b"time": leb128.unsigned(NOW_NS)}), root
    )


@dataclass(frozen=True)
class LittleState:
    """What the subnet's tree says; each part can be set by a test."""

    canister: bytes = CANISTER
    certified_data: bytes = bytes(range(32))
    time: bytes = field(default_factory=lambda: leb128.unsigned(NOW_NS))
    request_status: Mapping[bytes, Shape] = field(default_factory=dict)

    def tree(self) -> HashTree:
        shape: dict[bytes, Shape] = {
            b"canister": {
                bytes.fromhex("00000000003000010101"): {b"certified_data": b"another's"},
                self.canister: {
                    b"certified_data": self.certified_data,
                    b"controllers": b"\x80",
                    b"module_hash": bytes(32),
                },
            },
            b"time": self.time,
        }
        if self.request_status:
            shape[b"request_status"] = self.request_status
        return grow(shape)


def labels(tree: HashTree) -> list[bytes]:
    return [node.label for node in siblings(tree) if isinstance(node, Labeled)]


def little_certificate(state: LittleState | None = None, delegation: bytes | None = None) -> bytes:
    """A good certificate of the subnet's, delegated by the root."""
    tree = (state or LittleState()).tree()
    return certificate_bytes(tree, SUBNET_SIGNER, flat_delegation() if delegation is None else delegation)
