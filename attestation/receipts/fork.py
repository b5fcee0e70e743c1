"""Evidence that one receipt key vouched for two histories: a document anyone can check with nothing but itself.

A cell's key is made in the cell and never leaves it, so what it signs has one history. Two that exclude each other
mean that the cell, its machine or its key is not what its evidence said (docs/spec/receipt.md T27, T28).

    [1, 0, key, note, note]                                  two roots for one size
    [1, 1, key, note, note, index, leaf, path, leaf, path]   two logs that differ in what stands at one index
    [1, 2, key, signed receipt, signed receipt]              two receipts for one place in the order

Notes and receipts stand in ascending order of their bytes, so that one fork has one document.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum, unique
from typing import ClassVar, Final, Self

from attestation.receipts.checkpoint import SIZE_MAX, Checkpoint, SignedCheckpoint
from attestation.receipts.errors import ForkRefused
from attestation.receipts.signed_receipt import SignedReceipt
from foundation import cbor, merkle
from foundation.digests import DIGEST_BYTES
from foundation.refusal import difference, outline, shown

FORK_BYTES_MAX: Final = 16 * 1024
_PATH_MAX: Final = 64
_LIMITS: Final = cbor.Limits(bytes_max=FORK_BYTES_MAX, depth_max=2, items_max=2 * _PATH_MAX + 16)


@unique
class Ground(IntEnum):
    """In what the two histories exclude each other."""

    ROOTS = 0
    LEAVES = 1
    RECEIPTS = 2


@dataclass(frozen=True, slots=True)
class LeafAt:
    """What a tree has at an index: the leaf's hash and the way up from it."""

    leaf: bytes
    path: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class ForkDocument:
    """Parsed, not believed: `check` convicts or refuses."""

    VERSION: ClassVar[int] = 1
    ground: Ground
    key: bytes
    first: bytes
    second: bytes
    index: int = 0
    leaves: tuple[LeafAt, ...] = ()

    def encode(self) -> bytes:
        value: list[cbor.Encodable] = [self.VERSION, int(self.ground), self.key, self.first, self.second]
        if self.ground is Ground.LEAVES:
            value.append(self.index)
            for each in self.leaves:
                value += [each.leaf, list(each.path)]
        return cbor.encode(value)

    @classmethod
    def parse(cls, raw: bytes) -> Self:
        """Raises `ForkRefused`, nothing else."""
        value = cbor.decode_or(ForkRefused, "document", raw, _LIMITS)
        match value:
            case [1, 0 | 2 as ground, bytes(key), bytes(first), bytes(second)]:
                fork = cls(Ground(ground), key, first, second)
            case [
                1,
                1,
                bytes(key),
                bytes(first),
                bytes(second),
                int(index),
                bytes(one),
                list(up),
                bytes(two),
                list(also_up),
            ] if 0 <= index <= SIZE_MAX:
                leaves = (LeafAt(_hash(one), _hashes(up)), LeafAt(_hash(two), _hashes(also_up)))
                fork = cls(Ground.LEAVES, key, first, second, index, leaves)
            case _:
                raise ForkRefused("document", expected="a fork of version 1", got=outline(value))
        if fork.encode() != raw or fork.first >= fork.second:
            raise ForkRefused(
                "document",
                expected="its one encoding, the lesser of the two first",
                got=difference(raw, fork.encode()) if fork.encode() != raw else "the greater of the two first",
            )
        return fork

    def check(self) -> str:
        """In words, what this key did. Raises `ReceiptRefused` if the document does not prove it."""
        match self.ground:
            case Ground.RECEIPTS:
                return self._two_receipts()
            case Ground.ROOTS | Ground.LEAVES:
                return self._two_logs()

    def _two_receipts(self) -> str:
        signed = [SignedReceipt.parse(each) for each in (self.first, self.second)]
        for each in signed:
            each.verify(self.key)
        one, two = (each.receipt for each in signed)
        if (one.gateway, one.place) != (two.gateway, two.place) or signed[0].body == signed[1].body:
            same = "one body twice" if signed[0].body == signed[1].body else ""
            got = same or f"{one.place} of {one.gateway.hex()} and {two.place} of {two.gateway.hex()}"
            raise ForkRefused("receipts", expected="two different bodies for one place", got=got)
        return f"signed two different receipts for height {one.height}, index {one.index}"

    def _two_logs(self) -> str:
        one, two = (SignedCheckpoint.parse(each).verify(self.key) for each in (self.first, self.second))
        if self.ground is Ground.ROOTS:
            if one.size != two.size or one.root == two.root:
                raise ForkRefused(
                    "roots",
                    expected="two roots for one size",
                    got=f"sizes {one.size} and {two.size}, roots {one.root.hex()[:16]} and {two.root.hex()[:16]}",
                )
            return f"signed two different logs of {one.size} receipts"
        left, right = self.leaves
        if left.leaf == right.leaf:
            raise ForkRefused("leaves", expected="two different leaves", got=left.leaf.hex())
        for each, of in ((left, one), (right, two)):
            if (root := merkle.root_of(each.leaf, self.index, of.size, each.path)) != of.root:
                raise ForkRefused("leaves", expected="a leaf of each log at this index", got=f"a path to {shown(root)}")
        return f"signed two logs, of {one.size} and {two.size} receipts, that differ in number {self.index}"


def fork_of_receipts(key: bytes, one: bytes, two: bytes) -> ForkDocument:
    """Of two signed receipts for one place."""
    return ForkDocument(Ground.RECEIPTS, key, min(one, two), max(one, two))


def fork_of_logs(
    key: bytes, one: tuple[bytes, Sequence[bytes]], two: tuple[bytes, Sequence[bytes]]
) -> ForkDocument | None:
    """Of two notes, each with the leaf hashes of its log; None where one log is the beginning of the other."""
    (first, first_leaves), (second, second_leaves) = sorted((one, two), key=lambda each: each[0])
    sizes = [_checkpoint(note).size for note in (first, second)]
    if sizes[0] == sizes[1]:
        roots = {_checkpoint(note).root for note in (first, second)}
        return ForkDocument(Ground.ROOTS, key, first, second) if len(roots) == 2 else None
    for index in range(min(sizes)):
        if first_leaves[index] != second_leaves[index]:
            leaves = tuple(
                LeafAt(of[index], merkle.path(of[:size], index))
                for of, size in zip((first_leaves, second_leaves), sizes, strict=True)
            )
            return ForkDocument(Ground.LEAVES, key, first, second, index, leaves)
    return None


def _checkpoint(note: bytes) -> Checkpoint:
    return SignedCheckpoint.parse(note).checkpoint


def _hash(raw: bytes) -> bytes:
    if len(raw) != DIGEST_BYTES:
        raise ForkRefused("document", expected=f"hashes of {DIGEST_BYTES} bytes", got=len(raw))
    return raw


def _hashes(values: list[cbor.Value]) -> tuple[bytes, ...]:
    found = [value for value in values if isinstance(value, bytes)]
    if len(found) != len(values) or len(found) > _PATH_MAX:
        raise ForkRefused(
            "document", expected=f"at most {_PATH_MAX} hashes", got=f"{len(values)} values, {len(found)} of them bytes"
        )
    return tuple(_hash(value) for value in found)
