"""The Internet Computer's hash trees: parsed, hashed, looked into.

A tree commits to many values with one digest, and shows some of them. What it does not show is *pruned*: only
a digest is left. So a lookup has more than two answers, and they must not be confused:

    Found(value)    the tree says so
    FoundTree(tree) the same, of a subtree
    Absent          the tree proves there is no such path
    Unknown         the tree does not say: something that could be it is pruned
    Misplaced       there is a leaf where a subtree was asked for, or a subtree where a leaf was

A tree that exists is well formed: labels of one level strictly ascend, a leaf has no siblings. The
constructors refuse the rest, so a path has at most one value. Whether the digest is anybody's word is not
established here.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

from attestation.consensus.refusals import EncodingRefused
from foundation.cbor import SELF_DESCRIBED, CborRefused, Encodable, Limits, Tag, decode_foreign, encode
from foundation.digests import DIGEST_BYTES, tagged_sha256
from foundation.refusal import disorder, outline

TREE_DEPTH_MAX = 128
TREE_LIMITS = Limits(bytes_max=4 << 20, depth_max=TREE_DEPTH_MAX + 4, items_max=1 << 17)


@dataclass(frozen=True, slots=True, eq=False)
class Empty:
    digest: bytes = field(init=False, default=tagged_sha256("ic-hashtree-empty"))


@dataclass(frozen=True, slots=True, eq=False)
class Leaf:
    value: bytes
    digest: bytes = field(init=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "digest", tagged_sha256("ic-hashtree-leaf", self.value))


@dataclass(frozen=True, slots=True, eq=False)
class Pruned:
    digest: bytes

    def __post_init__(self) -> None:
        if len(self.digest) != DIGEST_BYTES:
            raise _refused("pruned", f"a digest of {DIGEST_BYTES} bytes", f"{len(self.digest)} bytes")


@dataclass(frozen=True, slots=True, eq=False)
class Labeled:
    label: bytes
    tree: HashTree
    digest: bytes = field(init=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "digest", tagged_sha256("ic-hashtree-labeled", self.label, self.tree.digest))


@dataclass(frozen=True, slots=True, eq=False)
class Fork:
    left: HashTree
    right: HashTree
    digest: bytes = field(init=False, repr=False)
    lowest: bytes | None = field(init=False, repr=False)  # of the labels shown on this level, if any
    highest: bytes | None = field(init=False, repr=False)

    def __post_init__(self) -> None:
        left, right = self.left, self.right
        if isinstance(left, Leaf) or isinstance(right, Leaf):
            raise _refused("leaf-in-fork", "a leaf without siblings", "a leaf in a fork")
        below, above = _highest(left), _lowest(right)
        if below is not None and above is not None and below >= above:
            raise _refused("label-order", "labels that strictly ascend", disorder([below, above]))
        object.__setattr__(self, "lowest", above if _lowest(left) is None else _lowest(left))
        object.__setattr__(self, "highest", below if _highest(right) is None else _highest(right))
        object.__setattr__(self, "digest", tagged_sha256("ic-hashtree-fork", left.digest, right.digest))


HashTree: TypeAlias = Empty | Fork | Labeled | Leaf | Pruned


def _lowest(tree: HashTree) -> bytes | None:
    if isinstance(tree, Labeled):
        return tree.label
    return tree.lowest if isinstance(tree, Fork) else None


def _highest(tree: HashTree) -> bytes | None:
    if isinstance(tree, Labeled):
        return tree.label
    return tree.highest if isinstance(tree, Fork) else None


# --- bytes --------------------------------------------------------------------------------------------------


def parse(data: bytes) -> HashTree:
    """A tree from its CBOR, with or without the self-describing tag. Raises `EncodingRefused`, nothing else."""
    try:
        value = decode_foreign(data, TREE_LIMITS)
    except CborRefused as refusal:
        raise EncodingRefused(f"tree.{refusal.code}", expected=refusal.expected, got=refusal.got) from refusal
    if isinstance(value, Tag) and value.number == SELF_DESCRIBED:
        return from_cbor(value.value)
    return from_cbor(value)


def from_cbor(value: Encodable, depth: int = TREE_DEPTH_MAX) -> HashTree:
    """A tree from decoded CBOR. The recursion is bounded by `depth`, whatever the input."""
    if depth == 0:
        raise _refused("depth", f"at most {TREE_DEPTH_MAX} levels", f"over {TREE_DEPTH_MAX}")
    match value:
        case [0] if _is_kind(value):
            return Empty()
        case [1, left, right] if _is_kind(value):
            return Fork(from_cbor(left, depth - 1), from_cbor(right, depth - 1))
        case [2, bytes(label), tree] if _is_kind(value):
            return Labeled(label, from_cbor(tree, depth - 1))
        case [3, bytes(content)] if _is_kind(value):
            return Leaf(content)
        case [4, bytes(digest)] if _is_kind(value):
            return Pruned(digest)
    raise _refused("node", "a node of kind 0 to 4 with its parts", outline(value))


def _is_kind(value: object) -> bool:
    # A pattern compares by ==, and True == 1: the kind must be an integer itself.
    return isinstance(value, (list, tuple)) and type(value[0]) is int


def to_cbor(tree: HashTree) -> Encodable:
    """The tree as `foundation.cbor.encode` takes it."""
    match tree:
        case Empty():
            return [0]
        case Fork():
            return [1, to_cbor(tree.left), to_cbor(tree.right)]
        case Labeled():
            return [2, tree.label, to_cbor(tree.tree)]
        case Leaf():
            return [3, tree.value]
        case Pruned():
            return [4, tree.digest]


def serialise(tree: HashTree) -> bytes:
    return encode(Tag(SELF_DESCRIBED, to_cbor(tree)))


# --- lookup -------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Found:
    value: bytes


@dataclass(frozen=True, slots=True)
class FoundTree:
    tree: HashTree


@dataclass(frozen=True, slots=True)
class Absent:
    """Proven not to be there."""


@dataclass(frozen=True, slots=True)
class Unknown:
    """Not shown: it may or may not be there. Never to be read as `Absent`."""


@dataclass(frozen=True, slots=True)
class Misplaced:
    """Something of the other kind is there."""


Lookup: TypeAlias = Found | Absent | Unknown | Misplaced
TreeLookup: TypeAlias = FoundTree | Absent | Unknown | Misplaced
Path: TypeAlias = Sequence[bytes]


def lookup(tree: HashTree, path: Path) -> Lookup:
    """The leaf at `path`."""
    found = find(tree, path)
    if not isinstance(found, FoundTree):
        return found
    match found.tree:
        case Leaf(value=value):
            return Found(value)
        case Empty():
            return Absent()
        case Pruned():
            return Unknown()
        case Fork() | Labeled():
            return Misplaced()


def find(tree: HashTree, path: Path) -> TreeLookup:
    """The subtree at `path`."""
    for label in path:
        step = _step(tree, label)
        if not isinstance(step, FoundTree):
            return step
        tree = step.tree
    return FoundTree(tree)


def _step(tree: HashTree, label: bytes) -> TreeLookup:
    before: HashTree | None = None  # the sibling just left of where `label` would be
    for sibling in siblings(tree):
        if isinstance(sibling, Labeled):
            if sibling.label == label:
                return FoundTree(sibling.tree)
            if sibling.label > label:
                return Unknown() if isinstance(before, Pruned) else Absent()
        elif isinstance(sibling, Leaf):
            return Misplaced()
        before = sibling
    return Unknown() if isinstance(before, Pruned) else Absent()


def siblings(tree: HashTree) -> Iterator[Labeled | Leaf | Pruned]:
    """The nodes of one level from left to right, forks and empty trees taken away."""
    waiting = [tree]
    while waiting:
        node = waiting.pop()
        if isinstance(node, Fork):
            waiting += (node.right, node.left)
        elif not isinstance(node, Empty):
            yield node


def leaves(tree: HashTree) -> Iterator[tuple[tuple[bytes, ...], bytes]]:
    """Every leaf that is shown, with its path, from left to right."""
    waiting: list[tuple[tuple[bytes, ...], HashTree]] = [((), tree)]
    while waiting:
        path, node = waiting.pop()
        match node:
            case Fork():
                waiting += ((path, node.right), (path, node.left))
            case Labeled():
                waiting.append(((*path, node.label), node.tree))
            case Leaf():
                yield path, node.value
            case Empty() | Pruned():
                pass


def _refused(code: str, expected: str, got: str) -> EncodingRefused:
    return EncodingRefused(f"tree.{code}", expected=expected, got=got)
