"""answer.md A4, A6 to A9: which keys there are for a block, on every cell the same."""

from __future__ import annotations

import os

import hypothesis.strategies as st
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given

from attestation.sealed.errors import KeysRefused
from attestation.sealed.ring import HEIGHT_MAX, KEYS_KEPT, KEYS_MAX, OFFER_TAG, Offer, Ring, ServiceKey, offers
from attestation.sealed.suites import PUBLIC_BYTES, OpeningKey, SealingKey, SuiteId
from foundation import cbor
from foundation.digests import tagged_sha256
from foundation.secrecy import Secret

BROKER = Ed25519PrivateKey.from_private_bytes(b"\x05" * 32)
PUBLIC = BROKER.public_key().public_bytes_raw()
SUITES = st.sampled_from(SuiteId)


def ring(suite: SuiteId = SuiteId.X25519, first: int = 1, blocks: int = 100, overlap: int = 20) -> Ring:
    return Ring.make(suite, first, blocks, overlap, randomness=os.urandom)


def blocks_of(of: Ring) -> list[tuple[int, int]]:
    return [(key.first, key.last) for key in of.keys]


@given(SUITES, st.integers(1, 10**6), st.integers(1, 10**6), st.integers(0, 100))
def test_any_ring_comes_back_as_itself(suite: SuiteId, first: int, blocks: int, percent: int) -> None:
    made = ring(suite, first, blocks, blocks * percent // 100)
    assert Ring.parse(made.encode()).encode() == made.encode()
    assert made.keys[0].key.secret.reveal().hex() not in repr(made)


@given(st.integers(1, 50), st.integers(0, 50), st.integers(0, 7), st.integers(0, 7))
def test_two_rings_never_disagree_about_a_block_both_speak_for(blocks: int, overlap: int, one: int, other: int) -> None:
    """answer.md A8: through any number of rotations; and every block has a key, with the overlap two."""
    rings = [ring(first=5, blocks=blocks, overlap=min(overlap, blocks))]
    for _ in range(7):
        rings.append(rings[-1].rotated(SuiteId.X25519, os.urandom, answered=10**9))
    older, newer = rings[min(one, other)], rings[max(one, other)]
    older.check_agrees(newer)
    newer.check_agrees(older)
    for height in range(max(older.first, newer.first), min(older.through, newer.through) + 1):
        for_it = [{name for name, key in each.by_id.items() if key.is_for(height)} for each in (older, newer)]
        assert for_it[0] == for_it[1]
        assert 1 <= len(for_it[0]) <= 3
    assert newer.through == older.through + blocks * abs(one - other)
    assert len(newer.keys) <= KEYS_KEPT


def test_a_rotation_by_the_numbers() -> None:
    made = ring()
    assert (made.first, made.renew, made.through, blocks_of(made)) == (1, 101, 200, [(1, 120), (101, 220)])
    second = made.rotated(SuiteId.X25519, os.urandom, answered=0)
    assert (second.first, second.renew, second.through) == (1, 201, 300)
    assert blocks_of(second) == [(1, 120), (101, 220), (201, 320)]
    third = second.rotated(SuiteId.MLKEM768_X25519, os.urandom, answered=120)
    assert (third.first, third.renew, third.through) == (121, 301, 400)  # the first key is forgotten
    assert second.rotated(SuiteId.X25519, os.urandom, answered=119).first == 1  # a block still waits for it
    assert third.keys[-1].key.suite is SuiteId.MLKEM768_X25519


def test_a_ring_that_was_made_anew_contradicts_the_one_before() -> None:
    with pytest.raises(KeysRefused, match="contradiction"):
        ring().check_agrees(ring())
    ring(first=1).check_agrees(ring(first=10_000))  # nothing they both speak for


def test_a_key_is_for_its_blocks_and_its_name() -> None:
    """answer.md A7"""
    made = ring()
    name = made.keys[0].key.public.id
    assert made.key(name, 1) is made.keys[0].key
    assert made.key(name, 120) is made.keys[0].key
    assert made.key(name, 121) is None
    assert made.key(bytes(32), 1) is None
    assert [made.speaks_for(height) for height in (0, 1, 200, 201)] == [False, True, True, False]


@pytest.mark.parametrize(
    "value",
    [
        [],
        [2, 1, 1, 1, []],
        [1, 1, 1, 1, []],
        [1, 1, 1, 1, [[2, 1, 1, b""]]],
        [1, 1, 1, 1, [[3, 1, 1, bytes(32)]]],
        [1, 2, 1, 1, [[2, 1, 1, bytes(32)]]],
        [1, 0, 1, 1, [[2, 1, 1, bytes(32)]]],
        [True, 1, 1, 1, [[2, 1, 1, bytes(32)]]],
        [1, 1, 1, 1, [[2, 1, 1, bytes(32)], [2, 1, 1, bytes(32)]]],
        [1, 1, 1, 1, [[2, 1, 1, bytes(32)]] * 2],
        [1, 1, 1, 1, [[2, 2, 1, bytes(32)]]],
        [1, 1, 1, HEIGHT_MAX + 1, [[2, 1, 1, bytes(32)]]],
        [1, 1, 1, 1, [[2, 1, 2, bytes(32)], [2, 2, 2, bytes(32)]]],
        [1, 1, 1, 1, [[2, 1, 1]]],
        [1, 1, 1, 9, [[2, k, k, bytes([k]) * 32] for k in range(1, KEYS_MAX + 2)]],
        b"",
        {},
        "ring",
    ],
)
def test_what_is_no_ring(value: cbor.Value) -> None:
    with pytest.raises(KeysRefused):
        Ring.parse(Secret(cbor.encode(value)))


def test_a_key_of_eight_bits_too_few() -> None:
    for suite in SuiteId:
        with pytest.raises(KeysRefused):
            OpeningKey(suite, Secret(bytes(31)))
        with pytest.raises(KeysRefused):
            SealingKey(suite, bytes(PUBLIC_BYTES[suite] - 1))
    with pytest.raises(KeysRefused):
        SealingKey(SuiteId.MLKEM768_X25519, b"\xff" * PUBLIC_BYTES[SuiteId.MLKEM768_X25519])
    with pytest.raises(KeysRefused):
        ServiceKey(OpeningKey.make(SuiteId.X25519, os.urandom), 0, 1)
    with pytest.raises(KeysRefused):
        ring(blocks=1, overlap=2)


@pytest.mark.parametrize("suite", SuiteId)
def test_an_offer_is_the_brokers_or_refused(suite: SuiteId) -> None:
    """answer.md A6: every byte of it counts."""
    made = ring(suite)
    for raw, key in zip(offers("a/service-key/b", made, BROKER), made.keys, strict=True):
        offer = Offer.checked(raw, PUBLIC)
        assert (offer.resource, offer.key.raw, offer.first, offer.last) == (
            "a/service-key/b",
            key.key.public.raw,
            key.first,
            key.last,
        )
        for at in {0, 1, 5, len(raw) // 2, len(raw) - 70, len(raw) - 1}:
            changed = bytearray(raw)
            changed[at] ^= 1
            with pytest.raises(KeysRefused):
                Offer.checked(bytes(changed), PUBLIC)
        with pytest.raises(KeysRefused, match="signature"):
            Offer.checked(raw, bytes(31) + b"\x01")


def test_an_offer_of_nonsense_signed_by_the_broker() -> None:
    good = Offer.of("a/service-key/b", ring().keys[0])

    for value in (
        [1],
        [2, "r", 2, good.key.raw, 1, 2],
        [1, "r", 9, good.key.raw, 1, 2],
        [1, "r", 2, b"", 1, 2],
        [1, "r", 2, good.key.raw, 2, 1],
        [1, "r", 2, good.key.raw, 0, 1],
        [True, "r", 2, good.key.raw, 1, 1],
    ):
        raw = cbor.encode(value)
        signed = cbor.encode([raw, BROKER.sign(tagged_sha256(OFFER_TAG, raw))])
        with pytest.raises(KeysRefused):
            Offer.checked(signed, PUBLIC)
