"""RFC 9162 Merkle trees over SHA-256: many leaves under one digest, and the way from one leaf up to it.

    root([leaf(b"a"), leaf(b"b"), leaf(b"c")])      the tree hash of section 2.1.1
    path(leaves, 1)                                 the inclusion proof of section 2.1.3, for one leaf

Establishes that bytes stood at a place in a list, given the list's root and length; what the root is worth is
what vouches for it.
"""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import sha256

LEAF = b"\x00"
NODE = b"\x01"


def leaf(data: bytes) -> bytes:
    """The hash of one entry."""
    return sha256(LEAF + data).digest()


def root(leaves: Sequence[bytes]) -> bytes:
    """The tree hash over `leaves`, which are hashes already."""
    if not leaves:
        return sha256(b"").digest()
    # Pairing level by level, an odd last node moving up untouched, is the split of RFC 9162 at the largest
    # power of two: the same tree without recursion.
    level = list(leaves)
    while len(level) > 1:
        level = _pairs(level)
    return level[0]


def path(leaves: Sequence[bytes], index: int) -> tuple[bytes, ...]:
    """The siblings that lead from `leaves[index]` to the root, lowest first."""
    if not 0 <= index < len(leaves):
        raise IndexError(f"no leaf {index} among {len(leaves)}")
    siblings = []
    level = list(leaves)
    while len(level) > 1:
        beside = index ^ 1
        if beside < len(level):
            siblings.append(level[beside])
        level = _pairs(level)
        index >>= 1
    return tuple(siblings)


def root_of(leaf_hash: bytes, index: int, size: int, siblings: Sequence[bytes]) -> bytes | None:
    """The root that `siblings` lead to from leaf `index` of `size`; None if their number cannot be right."""
    if not 0 <= index < size:
        return None
    current, left = leaf_hash, list(siblings)
    while size > 1:
        if index ^ 1 < size:
            if not left:
                return None
            beside = left.pop(0)
            pair = beside + current if index & 1 else current + beside
            current = sha256(NODE + pair).digest()
        index, size = index >> 1, (size + 1) >> 1
    return None if left else current


def _pairs(level: list[bytes]) -> list[bytes]:
    paired = [sha256(NODE + level[k] + level[k + 1]).digest() for k in range(0, len(level) - 1, 2)]
    if len(level) & 1:
        paired.append(level[-1])
    return paired
