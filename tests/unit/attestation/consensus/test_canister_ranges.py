"""The ranges of canisters that a subnet speaks for: in one list, in shards, pruned or missing."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from attestation.consensus.certificate import parse_certificate
from attestation.consensus.hashtree import Fork, Labeled, Pruned
from attestation.consensus.ranges import parse_ranges
from attestation.consensus.refusals import RangesRefused
from foundation import leb128
from foundation.cbor import SELF_DESCRIBED, Tag, encode
from tests.little_subnet import (
    CANISTER,
    NOW_NS,
    RANGE,
    ROOT,
    SUBNET,
    SUBNET_SIGNER,
    LittleState,
    Shape,
    certificate_bytes,
    flat_delegation,
    grow,
    little_certificate,
    prune,
    ranges,
    sharded_delegation,
)
from tests.unit.attestation.consensus.certificate_verification import CERTIFIED_DATA, refusal, verify

BELOW = bytes.fromhex("00000000001000000101")
ABOVE = bytes.fromhex("00000000005000000101")


@pytest.mark.parametrize("canister", [RANGE[0], CANISTER, RANGE[1]])
def test_both_ends_of_a_range_belong_to_it(canister: bytes) -> None:
    # certificates.md K7
    verify(little_certificate(LittleState(canister=canister)), canister=canister)


@pytest.mark.parametrize("canister", [BELOW, ABOVE, RANGE[0][:-1], RANGE[1] + b"\x00", b"\x00", b"\xff" * 29, b"\x04"])
def test_outside_its_ranges_a_subnet_speaks_for_nobody(canister: bytes) -> None:
    assert refusal(little_certificate(), RangesRefused, canister=canister) == "ranges.outside"


@pytest.mark.parametrize("canister", [b"", bytes(30)])
def test_the_management_canister_and_impossible_ids_have_no_subnet(canister: bytes) -> None:
    # certificates.md K8
    assert refusal(little_certificate(), RangesRefused, canister=canister) == "ranges.canister"
    root_certificate = certificate_bytes(LittleState().tree(), ROOT)
    assert refusal(root_certificate, RangesRefused, canister=canister) == "ranges.canister"


@pytest.mark.parametrize(
    ("listed", "code"),
    [
        (ranges(), "ranges.outside"),
        (ranges((RANGE[1], RANGE[0])), "ranges.order"),
        (ranges(RANGE, (ABOVE, BELOW)), "ranges.order"),
        (ranges(RANGE) + b"\x00", "ranges.cbor.trailing"),
        (b"\x9f" + ranges(RANGE, tagged=False)[1:] + b"\xff", "ranges.cbor.indefinite"),
        (b"", "ranges.cbor.truncated"),
        (encode({}), "ranges.format"),
        (encode([[RANGE[0]]]), "ranges.format"),
        (encode([[*RANGE, RANGE[0]]]), "ranges.format"),
        (encode([["a", "z"]]), "ranges.format"),
        (encode([*RANGE]), "ranges.format"),
        (encode([[bytes(30), bytes(30)]]), "ranges.format"),
        (encode(Tag(SELF_DESCRIBED, Tag(SELF_DESCRIBED, [[*RANGE]]))), "ranges.format"),
        (encode([Tag(SELF_DESCRIBED, [*RANGE])]), "ranges.format"),
        (b"\x81" + b"\x82\x58\x0a" + RANGE[0] + b"\x4a" + RANGE[1], "ranges.cbor.not-shortest"),
    ],
)
def test_a_list_that_is_no_list_of_ranges_authorises_nothing(listed: bytes, code: str) -> None:
    assert refusal(little_certificate(delegation=flat_delegation(listed)), RangesRefused) == code


def test_ranges_that_are_missing_or_pruned_authorise_nothing() -> None:
    # certificates.md K7
    shape: Shape = {b"subnet": {SUBNET: {b"public_key": SUBNET_SIGNER.der}}, b"time": leb128.unsigned(NOW_NS)}
    bare = certificate_bytes(grow(shape), ROOT)
    assert refusal(little_certificate(delegation=bare), RangesRefused) == "ranges.missing"
    inner = parse_certificate(flat_delegation())
    pruned = prune(inner.tree, lambda path: path[-1] != b"canister_ranges")
    hidden = certificate_bytes(pruned, ROOT)
    assert refusal(little_certificate(delegation=hidden), RangesRefused) == "ranges.missing"
    # Without a canister to speak for, such a delegation is a good one; and then no canister can be read.
    verified = verify(little_certificate(delegation=bare), canister=None)
    with pytest.raises(RangesRefused) as caught:
        verified.lookup(CERTIFIED_DATA)
    assert caught.value.code == "ranges.unchecked"


def test_ranges_may_be_without_the_tag() -> None:
    verify(little_certificate(delegation=flat_delegation(ranges(RANGE, tagged=False))))


SHARDS: dict[bytes, Shape] = {
    BELOW: ranges((BELOW, bytes.fromhex("00000000001fffff0101"))),
    RANGE[0]: ranges(RANGE),
    ABOVE: ranges((ABOVE, bytes.fromhex("00000000005fffff0101"))),
}


def test_the_shard_that_begins_nearest_below_is_read() -> None:
    # certificates.md K7
    verify(little_certificate(delegation=sharded_delegation(SHARDS)))
    for canister in (BELOW, ABOVE):
        state = LittleState(canister=canister)
        verify(little_certificate(state, sharded_delegation(SHARDS)), canister=canister)


def test_a_gap_between_shards_belongs_to_nobody() -> None:
    data = little_certificate(delegation=sharded_delegation(SHARDS))
    gap = bytes.fromhex("00000000004000000101")
    assert refusal(data, RangesRefused, canister=gap) == "ranges.outside"
    assert refusal(data, RangesRefused, canister=b"\x00" * 10) == "ranges.shard"


def test_a_shard_does_not_speak_for_canisters_of_another() -> None:
    crossed = dict(SHARDS)
    crossed[BELOW] = ranges(RANGE)
    crossed[RANGE[0]] = ranges()
    data = little_certificate(delegation=sharded_delegation(crossed))
    assert refusal(data, RangesRefused) == "ranges.outside"


def test_the_newer_layout_wins_where_it_is_shown() -> None:
    # certificates.md K7
    only_below = {BELOW: SHARDS[BELOW]}
    data = little_certificate(delegation=sharded_delegation(only_below, flat=ranges(RANGE)))
    assert refusal(data, RangesRefused) == "ranges.outside"
    verify(little_certificate(delegation=sharded_delegation({RANGE[0]: ranges(RANGE)}, flat=ranges())))


@pytest.mark.parametrize("shard", [{}, {b"x": b"y"}, {b"x": ranges(RANGE)}])
def test_a_shard_that_is_no_list_authorises_nothing(shard: Shape) -> None:
    data = little_certificate(delegation=sharded_delegation({RANGE[0]: shard}))
    assert refusal(data, RangesRefused) == "ranges.shard"


def test_a_pruned_shard_authorises_nothing() -> None:
    whole = parse_certificate(sharded_delegation(SHARDS)).tree
    pruned = prune(whole, lambda path: path != (b"canister_ranges", SUBNET, RANGE[0]))
    assert pruned.digest == whole.digest
    hidden = little_certificate(delegation=certificate_bytes(pruned, ROOT))
    assert refusal(hidden, RangesRefused) == "ranges.outside"

    below = Labeled(BELOW, grow(SHARDS[BELOW]))
    labelled = Fork(below, Labeled(RANGE[0], Pruned(grow(SHARDS[RANGE[0]]).digest)))
    tree = Fork(
        Labeled(b"canister_ranges", Labeled(SUBNET, labelled)),
        grow({b"subnet": {SUBNET: {b"public_key": SUBNET_SIGNER.der}}}),
    )
    hidden = little_certificate(delegation=certificate_bytes(tree, ROOT))
    assert refusal(hidden, RangesRefused) == "ranges.shard"


@given(st.binary(max_size=80))
def test_ranges_are_parsed_or_refused(data: bytes) -> None:
    try:
        pairs = parse_ranges(data)
    except RangesRefused:
        return
    assert all(low <= high for low, high in pairs)
