"""Hash trees: digest, well-formedness, and the four answers of a lookup."""

from __future__ import annotations

from hashlib import sha256

import pytest
from hypothesis import given
from hypothesis import strategies as st

from attestation.consensus.hashtree import (
    TREE_DEPTH_MAX,
    Absent,
    Empty,
    Fork,
    Found,
    FoundTree,
    HashTree,
    Labeled,
    Leaf,
    Misplaced,
    Pruned,
    Unknown,
    find,
    leaves,
    lookup,
    parse,
    serialise,
    to_cbor,
)
from attestation.consensus.refusals import EncodingRefused
from foundation.cbor import Encodable, Tag, encode
from tests.little_subnet import grow, labels, prune


def L(label: str, tree: HashTree | None = None) -> Labeled:  # noqa: N802  # short: trees are drawn with it
    return Labeled(label.encode(), Leaf(b"good") if tree is None else tree)


def specified() -> HashTree:
    """The example tree of the Interface Specification."""
    return Fork(
        Fork(L("a", Fork(Fork(L("x", Leaf(b"hello")), Empty()), L("y", Leaf(b"world")))), L("b")),
        Fork(L("c", Empty()), L("d", Leaf(b"morning"))),
    )


SPECIFIED_DIGEST = "eb5c5b2195e62d996b84c9bcc8259d19a83786a2f59e0878cec84c811f669aa0"


def test_the_specification_s_example_has_its_digest() -> None:
    assert specified().digest.hex() == SPECIFIED_DIGEST


def test_a_pruned_tree_has_the_digest_of_the_whole() -> None:
    pruned = prune(specified(), lambda path: path in ((b"a",), (b"a", b"y"), (b"d",)))
    assert pruned.digest.hex() == SPECIFIED_DIGEST
    assert list(leaves(pruned)) == [((b"a", b"y"), b"world"), ((b"d",), b"morning")]


@pytest.mark.parametrize(
    ("path", "whole", "pruned"),
    [
        ("a", Misplaced(), Misplaced()),
        ("a/y", Found(b"world"), Found(b"world")),
        ("a/x", Found(b"hello"), Unknown()),
        ("a/w", Absent(), Unknown()),
        ("a/z", Absent(), Absent()),
        ("a/y/deeper", Misplaced(), Misplaced()),
        ("aa", Absent(), Unknown()),
        ("b", Found(b"good"), Unknown()),
        ("c", Absent(), Unknown()),
        ("d", Found(b"morning"), Found(b"morning")),
        ("e", Absent(), Absent()),
        ("0", Absent(), Absent()),
        ("", Absent(), Absent()),
    ],
)
def test_what_a_lookup_says_of_the_whole_tree_and_of_a_pruned_one(path: str, whole: object, pruned: object) -> None:
    at = tuple(label.encode() for label in path.split("/"))
    assert lookup(specified(), at) == whole
    shown = prune(specified(), lambda below: below in ((b"a",), (b"a", b"y"), (b"d",)))
    assert lookup(shown, at) == pruned


def test_absence_needs_both_neighbours() -> None:
    # certificates.md K10
    hidden = Pruned(bytes(32))
    between = (b"m",)
    assert lookup(Fork(L("a"), L("z")), between) == Absent()
    assert lookup(Fork(L("a"), Fork(hidden, L("z"))), between) == Unknown()
    assert lookup(Fork(hidden, L("z")), between) == Unknown()
    assert lookup(Fork(L("a"), hidden), between) == Unknown()
    assert lookup(Fork(L("n"), hidden), between) == Absent()
    assert lookup(Fork(hidden, L("l")), between) == Absent()
    assert lookup(Fork(L("a"), Fork(Empty(), L("z"))), between) == Absent()
    assert lookup(hidden, between) == Unknown()
    assert lookup(Empty(), between) == Absent()
    assert lookup(Leaf(b""), between) == Misplaced()


def test_a_pruned_value_is_unknown_an_empty_one_absent() -> None:
    assert lookup(L("a", Pruned(bytes(32))), (b"a",)) == Unknown()
    assert lookup(L("a", Empty()), (b"a",)) == Absent()
    assert lookup(L("a", Leaf(b"")), (b"a",)) == Found(b"")
    assert lookup(Leaf(b"alone"), ()) == Found(b"alone")


def test_a_subtree_can_be_found_and_keeps_its_digest() -> None:
    found = find(specified(), (b"a",))
    assert isinstance(found, FoundTree)
    assert labels(found.tree) == [b"x", b"y"]
    assert Labeled(b"a", found.tree).digest == L("a", found.tree).digest


@pytest.mark.parametrize(
    ("left", "right", "code"),
    [
        (L("a"), L("a"), "tree.label-order"),
        (L("b"), L("a"), "tree.label-order"),
        (Fork(L("a"), L("c")), L("b"), "tree.label-order"),
        (L("c"), Fork(Pruned(bytes(32)), L("b")), "tree.label-order"),
        (Fork(L("c"), Pruned(bytes(32))), Fork(Empty(), L("c")), "tree.label-order"),
        (Leaf(b"x"), L("a"), "tree.leaf-in-fork"),
        (L("a"), Leaf(b"x"), "tree.leaf-in-fork"),
        (Leaf(b"x"), Empty(), "tree.leaf-in-fork"),
    ],
)
def test_an_ill_formed_level_is_no_tree(left: HashTree, right: HashTree, code: str) -> None:
    # certificates.md K2
    with pytest.raises(EncodingRefused) as caught:
        Fork(left, right)
    assert caught.value.code == code
    with pytest.raises(EncodingRefused) as caught:
        parse(encode([1, to_cbor(left), to_cbor(right)]))
    assert caught.value.code == code


@pytest.mark.parametrize(
    "value",
    [
        [],
        [5],
        [0, 0],
        [1, [0]],
        [1, [0], [0], [0]],
        [2, "text", [0]],
        [2, b"", b""],
        [3, "text"],
        [3],
        [3, [0]],
        [4, bytes(31)],
        [4, bytes(33)],
        [4, "0" * 32],
        [-1],
        ["0"],
        [b"\x00"],
        [False],
        [True, [0], [0]],
        [None],
        0,
        b"",
        {},
        {0: 0},
        None,
        [2, b"l", Tag(55799, [0])],
        Tag(55799, Tag(55799, [0])),
    ],
)
def test_other_shapes_are_refused(value: Encodable) -> None:
    with pytest.raises(EncodingRefused):
        parse(encode(value))


def test_the_tag_may_stand_before_a_tree_or_not() -> None:
    tree = specified()
    assert parse(encode(to_cbor(tree))).digest == tree.digest
    assert parse(serialise(tree)).digest == tree.digest


def test_depth_is_bounded() -> None:
    # certificates.md K2
    value: Encodable = [0]
    for _ in range(TREE_DEPTH_MAX - 1):
        value = [2, b"", value]
    parse(encode(value))
    with pytest.raises(EncodingRefused) as caught:
        parse(encode([2, b"", value]))
    assert caught.value.code == "tree.depth"
    for deep in (b"\x83\x01\x81\x00" * 50_000 + b"\x81\x00", b"\x83\x02\x40" * 50_000 + b"\x81\x00"):
        with pytest.raises(EncodingRefused):
            parse(deep)


shapes = st.recursive(
    st.binary(max_size=8),
    lambda inner: st.dictionaries(st.binary(max_size=4), inner, min_size=1, max_size=5),
    max_leaves=20,
)


@given(shapes, st.integers(0, 1 << 30))
def test_pruning_never_changes_the_digest_or_an_answer(shape: object, coin: int) -> None:
    tree = grow(shape)  # type: ignore[arg-type]
    pruned = prune(tree, lambda path: bool(sha256(repr((coin, path)).encode()).digest()[0] & 3))
    assert pruned.digest == tree.digest
    shown = dict(leaves(pruned))
    for path, value in leaves(tree):
        assert lookup(tree, path) == Found(value)
        assert lookup(pruned, path) == (Found(value) if path in shown else Unknown())


@given(shapes, st.lists(st.binary(max_size=4), max_size=3), st.integers(0, 1 << 30))
def test_a_pruned_tree_never_says_absent_of_what_the_whole_has(shape: object, path: list[bytes], coin: int) -> None:
    tree = grow(shape)  # type: ignore[arg-type]
    pruned = prune(tree, lambda at: bool(sha256(repr((coin, at)).encode()).digest()[0] & 1))
    whole, shown = lookup(tree, path), lookup(pruned, path)
    assert shown in (whole, Unknown())


@given(shapes)
def test_a_tree_survives_its_bytes(shape: object) -> None:
    tree = grow(shape)  # type: ignore[arg-type]
    again = parse(serialise(tree))
    assert again.digest == tree.digest
    assert list(leaves(again)) == list(leaves(tree))
