"""order.md O2: the tree of RFC 9162."""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import sha256

import pytest
from hypothesis import given
from hypothesis import strategies as st

from foundation import merkle


def by_the_definition(entries: Sequence[bytes]) -> bytes:
    """RFC 9162 section 2.1.1, word for word."""
    if not entries:
        return sha256(b"").digest()
    if len(entries) == 1:
        return sha256(b"\x00" + entries[0]).digest()
    split = 1 << ((len(entries) - 1).bit_length() - 1)
    left, right = by_the_definition(entries[:split]), by_the_definition(entries[split:])
    return sha256(b"\x01" + left + right).digest()


entries = st.lists(st.binary(max_size=8), max_size=40)


@given(entries)
def test_the_root_is_that_of_the_recursive_definition(values: list[bytes]) -> None:
    assert merkle.root([merkle.leaf(value) for value in values]) == by_the_definition(values)


@given(entries.filter(bool), st.data())
def test_a_path_leads_from_its_leaf_to_the_root_and_from_no_other_place(
    values: list[bytes], data: st.DataObject
) -> None:
    leaves = [merkle.leaf(bytes([k]) + value) for k, value in enumerate(values)]
    index = data.draw(st.integers(0, len(leaves) - 1))
    path = merkle.path(leaves, index)
    root = merkle.root(leaves)
    assert merkle.root_of(leaves[index], index, len(leaves), path) == root
    for other in range(len(leaves)):
        if other != index:
            assert merkle.root_of(leaves[other], index, len(leaves), path) != root
            assert merkle.root_of(leaves[index], other, len(leaves), path) != root
    assert merkle.root_of(leaves[index], index, len(leaves), (*path, bytes(32))) is None


def test_a_path_of_the_wrong_length_has_no_root() -> None:
    leaves = [merkle.leaf(bytes([k])) for k in range(5)]
    path = merkle.path(leaves, 1)
    assert merkle.root_of(leaves[1], 1, 5, path[:-1]) is None
    assert merkle.root_of(leaves[1], 5, 5, path) is None
    with pytest.raises(IndexError):
        merkle.path(leaves, 5)
