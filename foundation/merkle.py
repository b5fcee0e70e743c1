"""RFC 9162 Merkle trees over SHA-256: many leaves under one digest, and the way from one leaf up to it.

    root([leaf(b"a"), leaf(b"b"), leaf(b"c")])      the tree hash of section 2.1.1
    path(leaves, 1)                                 the inclusion proof of section 2.1.3, for one leaf
    range_path(leaves, 1, 3)                        the same for neighbours: what stands left and right of them
    consistency(leaves, 2)                          the proof of section 2.1.4 that a tree grew out of a smaller one
    Frontier()                                      the tree's right edge: all it takes to go on growing it

Establishes that bytes stood at a place in a list, given the list's root and length; what the root is worth is
what vouches for it.
"""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import sha256

from foundation.sized import Digest32

LEAF = b"\x00"
NODE = b"\x01"


def leaf(data: bytes) -> Digest32:
    """The hash of one entry."""
    return Digest32(sha256(LEAF + data).digest())


def root(leaves: Sequence[bytes]) -> Digest32:
    """The tree hash over `leaves`, which are hashes already."""
    if not leaves:
        return Digest32(sha256(b"").digest())
    # Pairing level by level, an odd last node moving up untouched, is the split of RFC 9162 at the largest
    # power of two: the same tree without recursion.
    level = list(leaves)
    while len(level) > 1:
        level = _pairs(level)
    return Digest32(level[0])


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


def range_path(leaves: Sequence[bytes], first: int, count: int) -> tuple[bytes, ...]:
    """The roots of the greatest subtrees beside `leaves[first:first + count]`, from left to right."""
    if not 0 <= first < first + count <= len(leaves):
        raise IndexError(f"no {count} leaves from {first} among {len(leaves)}")
    beside: list[bytes] = []

    def walk(low: int, high: int) -> None:
        if high <= first or low >= first + count:
            beside.append(root(leaves[low:high]))
        elif low < first or high > first + count:
            split = _split(low, high)
            walk(low, split)
            walk(split, high)

    walk(0, len(leaves))
    return tuple(beside)


def root_of_range(hashes: Sequence[bytes], first: int, size: int, beside: Sequence[bytes]) -> bytes | None:
    """The root of a tree of `size` in which `hashes` stand from `first` on; None if it cannot be told from these."""
    end = first + len(hashes)
    if not 0 <= first < end <= size:
        return None
    left = list(reversed(beside))

    def walk(low: int, high: int) -> bytes:
        if high <= first or low >= end:
            return left.pop()
        if low >= first and high <= end:
            return root(hashes[low - first : high - first])
        split = _split(low, high)
        return sha256(NODE + walk(low, split) + walk(split, high)).digest()

    try:
        found = walk(0, size)
    except IndexError:
        return None
    return None if left else found


def _split(low: int, high: int) -> int:
    """Where RFC 9162 divides a tree: at the largest power of two below its size."""
    return low + (1 << ((high - low - 1).bit_length() - 1))


def consistency(leaves: Sequence[bytes], old: int) -> tuple[bytes, ...]:
    """What proves that the first `old` of `leaves` are those of an earlier tree."""
    if not 0 < old <= len(leaves):
        raise IndexError(f"no tree of {old} below {len(leaves)}")
    proof: list[bytes] = []
    low, high, whole = 0, len(leaves), True  # is the old part, so far, the whole old tree?
    while old - low < high - low:
        split = _split(low, high)
        if old <= split:
            proof.append(root(leaves[split:high]))
            high = split
        else:
            proof.append(root(leaves[low:split]))
            low, whole = split, False
    if not whole:
        proof.append(root(leaves[low:high]))
    return tuple(reversed(proof))


def is_consistent(old_root: bytes, old: int, new_root: bytes, new: int, *, proof: Sequence[bytes]) -> bool:
    """Whether `proof` shows the tree of `new` leaves to begin with the `old` ones (section 2.1.4.2)."""
    if not 0 < old <= new:
        return False
    if old == new:
        return not proof and old_root == new_root
    left = list(proof)
    if old & (old - 1):  # only where the old tree is not a whole subtree does its edge have to be given
        if not left:
            return False
        current = left.pop(0)
    else:
        current = old_root
    first = second = current
    place, last = old - 1, new - 1
    while place & 1:
        place, last = place >> 1, last >> 1
    for beside in left:
        if last == 0:
            return False
        if place & 1 or place == last:
            first = sha256(NODE + beside + first).digest()
            second = sha256(NODE + beside + second).digest()
            while place and not place & 1:
                place, last = place >> 1, last >> 1
        else:
            second = sha256(NODE + second + beside).digest()
        place, last = place >> 1, last >> 1
    return last == 0 and first == old_root and second == new_root


class Frontier:
    """The roots of the whole subtrees along a tree's right edge, greatest first: a tree that is only added to.

    Memory and work per leaf are logarithmic; the leaves themselves are somewhere else, or nowhere.
    """

    __slots__ = ("_edge", "size")

    def __init__(self) -> None:
        self.size = 0
        self._edge: list[bytes] = []

    def add(self, leaf_hash: bytes) -> None:
        size = self.size
        while size & 1:  # as many subtrees close as the size has ones at its end
            leaf_hash = sha256(NODE + self._edge.pop() + leaf_hash).digest()
            size >>= 1
        self._edge.append(leaf_hash)
        self.size += 1

    @property
    def root(self) -> Digest32:
        if not self._edge:
            return Digest32(sha256(b"").digest())
        *left, current = self._edge
        for beside in reversed(left):
            current = sha256(NODE + beside + current).digest()
        return Digest32(current)


def _pairs(level: list[bytes]) -> list[bytes]:
    paired = [sha256(NODE + level[k] + level[k + 1]).digest() for k in range(0, len(level) - 1, 2)]
    if len(level) & 1:
        paired.append(level[-1])
    return paired
