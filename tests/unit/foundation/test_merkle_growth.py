"""receipt.md T18, T23: a tree that grows, and the proof that it only grew (RFC 9162 section 2.1.4)."""

from __future__ import annotations

from hashlib import sha256

import pytest
from hypothesis import given
from hypothesis import strategies as st

from foundation import merkle

LEAVES = [merkle.leaf(bytes([k])) for k in range(64)]
sizes = st.integers(1, len(LEAVES))


def node(left: bytes, right: bytes) -> bytes:
    return sha256(b"\x01" + left + right).digest()


def subproof(old: int, leaves: list[bytes], whole: bool) -> list[bytes]:
    """RFC 9162 section 2.1.4.1, word for word."""
    if old == len(leaves):
        return [] if whole else [merkle.root(leaves)]
    split = 1 << ((len(leaves) - 1).bit_length() - 1)
    if old <= split:
        return [*subproof(old, leaves[:split], whole), merkle.root(leaves[split:])]
    return [*subproof(old - split, leaves[split:], False), merkle.root(leaves[:split])]


def test_the_frontier_is_the_tree() -> None:
    frontier = merkle.Frontier()
    assert frontier.root == merkle.root(())
    for size, leaf in enumerate(LEAVES, 1):
        frontier.add(leaf)
        assert (frontier.size, frontier.root) == (size, merkle.root(LEAVES[:size]))


@given(sizes, sizes)
def test_a_consistency_proof_is_that_of_the_definition_and_holds(one: int, two: int) -> None:
    old, new = sorted((one, two))
    proof = merkle.consistency(LEAVES[:new], old)
    assert list(proof) == subproof(old, LEAVES[:new], True)
    assert merkle.is_consistent(merkle.root(LEAVES[:old]), old, merkle.root(LEAVES[:new]), new, proof=proof)


@given(sizes, sizes, st.data())
def test_a_proof_holds_for_nothing_else(one: int, two: int, data: st.DataObject) -> None:
    old, new = sorted((one, two))
    proof = list(merkle.consistency(LEAVES[:new], old))
    roots = merkle.root(LEAVES[:old]), merkle.root(LEAVES[:new])
    other = merkle.root([*LEAVES[: old - 1], bytes(32)])
    assert not merkle.is_consistent(other, old, roots[1], new, proof=proof)
    assert not merkle.is_consistent(roots[0], old, bytes(32), new, proof=proof)
    assert not merkle.is_consistent(roots[0], old, roots[1], new, proof=[*proof, bytes(32)])
    assert not merkle.is_consistent(roots[0], new + 1, roots[1], new, proof=proof)
    assert not merkle.is_consistent(roots[0], 0, roots[1], new, proof=proof)
    if proof:
        assert not merkle.is_consistent(roots[0], old, roots[1], new, proof=proof[:-1])
        place = data.draw(st.integers(0, len(proof) - 1))
        assert not merkle.is_consistent(
            roots[0], old, roots[1], new, proof=[*proof[:place], bytes(32), *proof[place + 1 :]]
        )


def test_there_is_no_proof_from_nothing_or_from_a_larger_tree() -> None:
    for old in (0, 4):
        with pytest.raises(IndexError):
            merkle.consistency(LEAVES[:3], old)


@given(sizes, st.data())
def test_neighbours_lead_to_the_root_and_from_no_other_place(size: int, data: st.DataObject) -> None:
    first = data.draw(st.integers(0, size - 1))
    count = data.draw(st.integers(1, size - first))
    leaves, root = LEAVES[:size], merkle.root(LEAVES[:size])
    beside = merkle.range_path(leaves, first, count)
    shown = leaves[first : first + count]
    assert merkle.root_of_range(shown, first, size, beside) == root
    assert merkle.root_of_range(shown, first, size, (*beside, bytes(32))) is None
    assert merkle.root_of_range(shown, first + 1, size, beside) != root
    assert merkle.root_of_range([bytes(32), *shown[1:]], first, size, beside) != root
    if beside:
        assert merkle.root_of_range(shown, first, size, beside[:-1]) is None
        place = data.draw(st.integers(0, len(beside) - 1))
        assert merkle.root_of_range(shown, first, size, (*beside[:place], bytes(32), *beside[place + 1 :])) != root
    if count == 1:
        path = merkle.path(leaves, first)
        assert merkle.root_of(shown[0], first, size, path) == root
        assert sorted(path) == sorted(beside)


def test_a_range_that_is_not_there() -> None:
    for first, count in ((0, 0), (2, 2), (-1, 2)):
        with pytest.raises(IndexError):
            merkle.range_path(LEAVES[:3], first, count)
    assert merkle.root_of_range([], 0, 3, ()) is None
    assert merkle.root_of_range(LEAVES[:4], 0, 3, ()) is None
    assert merkle.root_of_range(LEAVES[:1], 1 << 62, 1 << 63, ()) is None
