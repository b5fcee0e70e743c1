"""State trees as a replica builds them: labels sorted and balanced into forks, everything unasked pruned.

Written apart from `attestation.consensus.hashtree` on purpose: the two meet only in the bytes, as a replica
and a verifier do.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from hashlib import sha256
from typing import TypeAlias, Union

from foundation.cbor import Value
from foundation.digests import domain

Tree: TypeAlias = Union[bytes, Mapping[bytes, "Tree"]]  # noqa: UP007  # a recursive alias needs the name
Path: TypeAlias = Sequence[bytes]
Node: TypeAlias = list[Value]  # as in the certificate: [kind, ...]

_EMPTY, _FORK, _LABELED, _LEAF, _PRUNED = range(5)


def witness(tree: Tree, paths: Iterable[Path]) -> Node:
    """The hash tree of `tree` that shows `paths` and prunes the rest."""
    return _shown(tree, [tuple(path) for path in paths])


def digest(node: Node) -> bytes:
    match node[0]:
        case 0:
            return _hash("ic-hashtree-empty")
        case 1:
            return _hash("ic-hashtree-fork", digest(_node(node[1])), digest(_node(node[2])))
        case 2:
            return _hash("ic-hashtree-labeled", _bytes(node[1]), digest(_node(node[2])))
        case 3:
            return _hash("ic-hashtree-leaf", _bytes(node[1]))
        case _:
            return _bytes(node[1])


def uleb128(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def _shown(tree: Tree, paths: list[tuple[bytes, ...]]) -> Node:
    if not paths:
        return [_PRUNED, digest(_whole(tree))]
    if isinstance(tree, bytes):
        return [_LEAF, tree]
    if () in paths:
        return _whole(tree)
    labels = sorted(tree)
    wanted = {label for path in paths for label in _witnesses(labels, path[0])}
    branches: list[Node] = []
    for label in labels:
        below = [path[1:] for path in paths if path[0] == label]
        if label not in wanted:
            branches.append([_PRUNED, digest([_LABELED, label, _whole(tree[label])])])
        else:
            branches.append([_LABELED, label, _shown(tree[label], below)])
    return _pruned_together(_balanced(branches))


def _witnesses(labels: list[bytes], label: bytes) -> list[bytes]:
    """The labels that show `label`, or the neighbours that show that it is not there."""
    if label in labels:
        return [label]
    return [*[each for each in labels if each < label][-1:], *[each for each in labels if each > label][:1]]


def _whole(tree: Tree) -> Node:
    if isinstance(tree, bytes):
        return [_LEAF, tree]
    return _balanced([[_LABELED, label, _whole(tree[label])] for label in sorted(tree)])


def _balanced(branches: list[Node]) -> Node:
    if not branches:
        return [_EMPTY]
    if len(branches) == 1:
        return branches[0]
    middle = len(branches) // 2
    return [_FORK, _balanced(branches[:middle]), _balanced(branches[middle:])]


def _pruned_together(node: Node) -> Node:
    if node[0] != _FORK:
        return node
    left, right = _pruned_together(_node(node[1])), _pruned_together(_node(node[2]))
    fork: Node = [_FORK, left, right]
    return [_PRUNED, digest(fork)] if left[0] == _PRUNED and right[0] == _PRUNED else fork


def _hash(tag: str, *parts: bytes) -> bytes:
    return sha256(domain(tag) + b"".join(parts)).digest()


def _node(value: Value) -> Node:
    assert isinstance(value, list)  # noqa: S101  # this module built it
    return value


def _bytes(value: Value) -> bytes:
    assert isinstance(value, bytes)  # noqa: S101  # this module built it
    return value
