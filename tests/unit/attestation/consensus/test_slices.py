"""order.md O7 to O9, O14 to O19: slices, and every way one may lie."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from attestation.consensus.blocks import BODY_BYTES_MAX, BlockRefused
from attestation.consensus.delegation import DelegationCache
from attestation.consensus.hashtree import Empty, Fork, HashTree, Labeled, Leaf, Pruned, serialise
from attestation.consensus.refusals import ConsensusRefused
from attestation.consensus.roots import MAINNET_ROOT_KEY
from attestation.consensus.slices import (
    PROOF_BYTES_MAX,
    Body,
    SliceProof,
    SliceRefused,
    VerifiedSlice,
    carry,
    verify_slice,
)
from devnet.chain import Chain
from devnet.misbehaviour import Misbehaviour
from devnet.subnet import GATEWAY, NEIGHBOUR, RangesLayout, Subnet
from foundation import cbor
from foundation.limits import HEADERS_MAX

NOW = 1_700_000_000_000_000_000
SUBNET = Subnet(b"slices")


def chain_of(count: int, subnet: Subnet = SUBNET) -> Chain:
    chain = Chain(subnet, GATEWAY, seed=b"slices")
    for k in range(count):
        chain.seal([b"%d.%d" % (k, j) for j in range(1 + k % 3)], NOW + k)
    return chain


CHAIN = chain_of(5)


def verify(raw: bytes, root_key: bytes = SUBNET.root_key, canister: bytes = GATEWAY) -> VerifiedSlice:
    return verify_slice(SliceProof.parse(raw), root_key=root_key, canister=canister)


def refused(raw: bytes, root_key: bytes = SUBNET.root_key, canister: bytes = GATEWAY) -> ConsensusRefused:
    with pytest.raises(ConsensusRefused) as refusal:
        verify(raw, root_key, canister)
    return refusal.value


@pytest.mark.parametrize("layout", RangesLayout)
@pytest.mark.parametrize("delegated", [True, False])
def test_a_slice_of_an_honest_subnet_is_believed(layout: RangesLayout, delegated: bool) -> None:
    # order.md O14, O15
    subnet = Subnet(b"honest", layout=layout, delegated=delegated)
    chain = chain_of(4, subnet)
    proven = verify(chain.proof(2, 4, NOW + 9), subnet.root_key)
    assert [header.height for header in proven.headers] == [2, 3, 4]
    assert proven.links == tuple(chain.link(height) for height in (2, 3, 4))
    assert (proven.first.parent, proven.head_link) == (chain.link(1), chain.head_link)
    assert proven.certified_time_ns == NOW + 9


def beside_answers(link: bytes, *, shown: bool = True) -> Fork:
    """What a gateway certifies that has answers: the link, and a digest of them."""
    answers = Labeled(b"answers", Pruned(b"\x0a" * 32))
    whole = Labeled(b"link", Leaf(link))
    return Fork(Pruned(answers.digest), whole if shown else Pruned(whole.digest))


def with_tree(tree: HashTree, certified: bytes, last: int = 5) -> bytes:
    certificate = SUBNET.certify(GATEWAY, certified, NOW + 9)
    return SliceProof(certificate, tuple([block.header for block in CHAIN.blocks[:last]]), serialise(tree)).encode()


def test_a_link_in_the_canisters_own_tree_is_believed() -> None:
    # order.md O7, O42
    tree = beside_answers(CHAIN.head_link)
    raw = with_tree(tree, tree.digest)
    assert SliceProof.parse(raw).encode() == raw
    proven = verify(raw)
    assert proven.head_link == CHAIN.head_link
    assert proven.tree == serialise(tree)


@pytest.mark.parametrize(
    ("raw", "code"),
    [
        (with_tree(beside_answers(CHAIN.head_link), CHAIN.head_link), "slice.tree"),
        (with_tree(beside_answers(CHAIN.head_link), b"\x01" * 32), "slice.tree"),
        (with_tree(beside_answers(CHAIN.link(4)), beside_answers(CHAIN.link(4)).digest), "slice.certified-data"),
        (with_tree(beside_answers(CHAIN.head_link, shown=False), beside_answers(CHAIN.head_link).digest),
         "lookup.unknown"),
        (with_tree(Labeled(b"answers", Empty()), Labeled(b"answers", Empty()).digest), "lookup.absent"),
        (with_tree(Leaf(CHAIN.head_link), Leaf(CHAIN.head_link).digest), "lookup.misplaced"),
        (SliceProof(SUBNET.certify(GATEWAY, CHAIN.head_link, NOW + 9),
                    tuple([block.header for block in CHAIN.blocks]), b"\xff").encode(), "tree."),
        (SliceProof(SUBNET.certify(GATEWAY, beside_answers(CHAIN.head_link).digest, NOW + 9),
                    tuple([block.header for block in CHAIN.blocks])).encode(), "slice.certified-data"),
    ],
)  # fmt: skip
def test_a_link_that_the_tree_does_not_show_is_refused(raw: bytes, code: str) -> None:
    # order.md O15, O42
    assert refused(raw).code.startswith(code)


def test_a_delegation_verified_once_may_be_remembered() -> None:
    cache = DelegationCache()
    for last in (3, 4):
        proof = SliceProof.parse(CHAIN.proof(1, last, NOW + 9))
        verify_slice(proof, root_key=SUBNET.root_key, canister=GATEWAY, cache=cache)
    assert len(cache) == 1


def test_the_mainnet_key_believes_nothing_of_this() -> None:
    assert refused(CHAIN.proof(1, 5, NOW + 9), MAINNET_ROOT_KEY).stage == "delegation"
    rootless = Subnet(b"r", delegated=False)
    assert refused(chain_of(1, rootless).proof(1, 1, NOW), MAINNET_ROOT_KEY).stage == "signature"


def test_root_key_and_canister_are_the_verifiers() -> None:
    # order.md O14: neither comes with the slice.
    assert refused(CHAIN.proof(1, 5, NOW + 9), Subnet(b"other").root_key).stage == "delegation"
    assert refused(CHAIN.proof(1, 5, NOW + 9), canister=NEIGHBOUR).code == "slice.canister"


CERTIFICATE_LIES = {
    Misbehaviour.WRONG_KEY: "signature.invalid",
    Misbehaviour.FLIPPED_SIGNATURE: "signature.",
    Misbehaviour.IDENTITY_SIGNATURE: "signature.identity",
    Misbehaviour.WRONG_CANISTER: "lookup.unknown",
    Misbehaviour.PRUNED_PATH: "lookup.unknown",
    Misbehaviour.ABSENT_PATH: "lookup.absent",
    Misbehaviour.NO_TIME: "lookup.absent",
    Misbehaviour.NESTED_DELEGATION: "delegation.nested",
    Misbehaviour.EMPTY_RANGES: "ranges.outside",
    Misbehaviour.OUTSIDE_RANGES: "ranges.",
    Misbehaviour.NO_RANGES: "ranges.",
    Misbehaviour.IDENTITY_SUBNET_KEY: "delegation.signature.key-identity",
    Misbehaviour.TRAILING_BYTE: "certificate.cbor.trailing",
}
CARRIED_LIES = {
    Misbehaviour.GAP: "slice.height",
    Misbehaviour.REORDERED: "slice.height",
    Misbehaviour.REPEATED: "slice.height",
    Misbehaviour.FORGED_HEAD: "slice.certified-data",
    Misbehaviour.FUTURE_BLOCK: "slice.block-time",
    Misbehaviour.OTHER_VERSION: "block.version",
}
SEALED_LIES = {
    Misbehaviour.WRONG_PARENT: "slice.parent",
    Misbehaviour.SKIPPED_IDS: "slice.first-id",
    Misbehaviour.TIME_RUNS_BACK: "slice.block-time",
    Misbehaviour.OTHER_CANISTER: "slice.canister",
}
BODY_LIES = {
    Misbehaviour.REQUEST_LEFT_OUT,
    Misbehaviour.REQUEST_ADDED,
    Misbehaviour.REQUEST_CHANGED,
    Misbehaviour.REQUESTS_REORDERED,
}


@pytest.mark.parametrize("layout", RangesLayout)
@pytest.mark.parametrize("lie", CERTIFICATE_LIES)
def test_each_lie_of_a_certificate_is_refused(lie: Misbehaviour, layout: RangesLayout) -> None:
    # order.md O14, O15
    chain = chain_of(2, Subnet(b"liar", layout=layout))
    refusal = refused(chain.proof(1, 2, NOW + 9, misbehaviour=lie), chain.subnet.root_key)
    assert refusal.code.startswith(CERTIFICATE_LIES[lie])


@pytest.mark.parametrize("lie", CARRIED_LIES)
def test_each_lie_in_carrying_headers_is_refused(lie: Misbehaviour) -> None:
    # order.md O15, O16, O18
    assert refused(CHAIN.proof(1, 5, NOW + 9, misbehaviour=lie)).code == CARRIED_LIES[lie]


@pytest.mark.parametrize("lie", SEALED_LIES)
def test_each_lie_in_sealing_is_refused_though_it_was_certified(lie: Misbehaviour) -> None:
    # order.md O15 to O18: a certificate does not mend a chain that contradicts itself.
    chain = chain_of(3)
    chain.seal([b"one"], NOW + 4, misbehaviour=lie)
    chain.seal([b"two"], NOW + 5)
    assert refused(chain.proof(2, 5, NOW + 9)).code == SEALED_LIES[lie]


@pytest.mark.parametrize(
    ("lie", "code"), [(Misbehaviour.OTHER_GENESIS, "slice.parent"), (Misbehaviour.SKIPPED_IDS, "slice.first-id")]
)
def test_the_first_block_stands_on_genesis_and_counts_from_zero(lie: Misbehaviour, code: str) -> None:
    # order.md O5
    chain = Chain(SUBNET, GATEWAY, seed=b"first")
    chain.seal([b"one"], NOW, misbehaviour=lie)
    assert refused(chain.proof(1, 1, NOW + 9)).code == code


def test_every_misbehaviour_has_a_refusal_that_meets_it() -> None:
    tables = {*CERTIFICATE_LIES, *CARRIED_LIES, *SEALED_LIES, *BODY_LIES, Misbehaviour.OTHER_GENESIS}
    assert tables == set(Misbehaviour)


def test_times_may_stand_still() -> None:
    # order.md O18
    chain = Chain(SUBNET, GATEWAY, seed=b"still")
    for _ in range(2):
        chain.seal([b"x"], NOW)
    assert verify(chain.proof(1, 2, NOW)).certified_time_ns == NOW


def test_the_verified_type_has_one_maker() -> None:
    # order.md O19
    proven = verify(CHAIN.proof(1, 1, NOW + 9))
    with pytest.raises(TypeError, match="from verify_slice alone"):
        VerifiedSlice(proven.canister, proven.certificate, None, 0, proven.headers, proven.links, object())
    with pytest.raises((TypeError, ValueError)):
        replace(proven, certified_time_ns=0)  # type: ignore[call-arg]


def test_an_auditor_checks_a_slice_and_its_bodies_with_the_same_code() -> None:
    # order.md O33
    from attestation.consensus.blocks import check_requests

    proven = verify(CHAIN.proof(1, 5, NOW + 9))
    for header in proven.headers:
        body = Body.parse(CHAIN.body(header.height))
        assert len(check_requests(header, body.requests)) == header.count


# --- form ---------------------------------------------------------------------------------------------------


def proof_value(**changes: object) -> bytes:
    value = {"version": 1, "certificate": b"c", "headers": [header_value(1)]}
    return cbor.encode(list((value | changes).values()))  # type: ignore[arg-type]


def header_value(height: int) -> cbor.Value:
    return cbor.decode(CHAIN.blocks[height - 1].header.encode())


@pytest.mark.parametrize(
    ("raw", "code"),
    [
        (proof_value(version=3), "slice.version"),
        (proof_value(version=2), "slice.proof"),
        (proof_value(version=True), "slice.version"),
        (proof_value(certificate="text"), "slice.certificate"),
        (proof_value(certificate=bytes((64 << 10) + 1)), "slice.certificate"),
        (proof_value(headers=[]), "slice.headers"),
        (proof_value(headers=7), "slice.headers"),
        (proof_value(headers=[header_value(1)] * (HEADERS_MAX + 1)), "slice."),
        (proof_value(headers=[7]), "block.header"),
        (proof_value(more=1), "slice.proof"),
        (proof_value() + b"\x00", "slice.encoding"),
        (bytes(PROOF_BYTES_MAX + 1), "slice.encoding"),
        (b"", "slice.encoding"),
    ],
)
def test_a_proof_out_of_form_is_refused(raw: bytes, code: str) -> None:
    # order.md O7, O9
    with pytest.raises(BlockRefused) as refusal:
        SliceProof.parse(raw)
    assert refusal.value.code.startswith(code)


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        CHAIN.body(1) + b"\x00",
        cbor.encode([1]),
        cbor.encode([-1, []]),
        cbor.encode([1, []]),
        bytes(BODY_BYTES_MAX + 1),
        cbor.encode([1, [[0, b"\x04", 0, b"", 0]]]),
    ],
)
def test_a_body_out_of_form_is_refused(raw: bytes) -> None:
    # order.md O8, O9
    with pytest.raises(BlockRefused):
        Body.parse(raw)


def test_the_longest_proof_fits() -> None:
    # order.md O9
    header = CHAIN.blocks[0].header
    longest = SliceProof(bytes(64 << 10), (header,) * HEADERS_MAX)
    assert SliceProof.parse(longest.encode()) == longest


def test_proofs_and_bodies_are_read_back_as_written() -> None:
    for height in range(1, 6):
        raw = CHAIN.body(height)
        assert Body.parse(raw).encode() == raw
        raw = CHAIN.proof(1, height, NOW + 9)
        assert SliceProof.parse(raw).encode() == raw


def test_a_host_carries_blocks_as_a_proof_and_bodies() -> None:
    # order.md O6, O7, O8
    proof, bodies = carry(SliceProof.parse(CHAIN.proof(1, 5, NOW + 9)).certificate, CHAIN.blocks)
    assert proof.encode() == CHAIN.proof(1, 5, NOW + 9)
    assert [body.encode() for body in bodies] == [CHAIN.body(height) for height in range(1, 6)]


# --- edits --------------------------------------------------------------------------------------------------

EDITED = CHAIN.proof(2, 4, NOW + 9)


@given(st.integers(0, len(EDITED) * 8 - 1))
def test_no_edit_of_a_bit_is_believed(bit: int) -> None:
    refused(flipped(EDITED, bit))


@given(st.integers(0, len(EDITED)), st.integers(1, 40), st.binary(max_size=40))
def test_no_splice_of_bytes_is_believed(start: int, length: int, put: bytes) -> None:
    bent = EDITED[:start] + put + EDITED[start + length :]
    if bent != EDITED:
        refused(bent)


@given(st.data())
def test_no_selection_of_headers_but_a_run_is_believed(data: st.DataObject) -> None:
    whole = SliceProof.parse(CHAIN.proof(1, 5, NOW + 9))
    chosen = data.draw(st.lists(st.sampled_from(whole.headers), min_size=1, max_size=6))
    proof = SliceProof(whole.certificate, tuple(chosen))
    if tuple(chosen) == whole.headers[-len(chosen) :]:
        verify(proof.encode())
    else:
        refused(proof.encode())


def test_a_certificate_of_another_slice_does_not_serve() -> None:
    other = SliceProof.parse(CHAIN.proof(1, 3, NOW + 9)).certificate
    spliced = SliceProof(other, SliceProof.parse(EDITED).headers)
    assert refused(spliced.encode()).code == "slice.certified-data"


def flipped(raw: bytes, bit: int) -> bytes:
    bent = bytearray(raw)
    bent[bit >> 3] ^= 1 << (bit & 7)
    return bytes(bent)


@pytest.mark.slow
@pytest.mark.parametrize("delegated", [False, True])
def test_not_one_bit_of_a_small_slice_can_be_changed(delegated: bool) -> None:
    """Every bit of proof, certificate and body, one at a time."""
    subnet = Subnet(b"bits", delegated=delegated)
    chain = chain_of(2, subnet)
    raw = chain.proof(1, 2, NOW + 9)
    cache = DelegationCache()
    proven = verify_slice(SliceProof.parse(raw), root_key=subnet.root_key, canister=GATEWAY, cache=cache)
    for bit in range(len(raw) * 8):
        with pytest.raises(ConsensusRefused):
            verify_slice(SliceProof.parse(flipped(raw, bit)), root_key=subnet.root_key, canister=GATEWAY, cache=cache)
    body = chain.body(2)
    for bit in range(len(body) * 8):
        with pytest.raises(BlockRefused):
            _take_body(proven, flipped(body, bit))


def _take_body(proven: VerifiedSlice, raw: bytes) -> None:
    from attestation.consensus.blocks import check_requests

    body = Body.parse(raw)
    header = proven.head
    if body.height != header.height:
        raise SliceRefused("height", expected=header.height, got=body.height)
    check_requests(header, body.requests)
