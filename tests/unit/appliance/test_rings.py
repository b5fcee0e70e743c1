"""answer.md A8, A9: a queued block keeps the ring it was released under, however many rings come while it waits."""

from __future__ import annotations

import gc
import os
import weakref
from dataclasses import replace
from itertools import pairwise

import pytest

from appliance.ordering.sequencer import OrderedRequest
from appliance.service_keys import Rings
from attestation.consensus.blocks import Kind
from attestation.sealed.errors import KeysRefused, SealedRefused
from attestation.sealed.request import Mode, Unsealed, seal
from attestation.sealed.ring import KEYS_MAX, Ring
from attestation.sealed.suites import SuiteId
from foundation.secrecy import Prompt, Secret
from tests.unit.appliance.orders import PLACE, ordered

BLOCKS, OVERLAP = 100, 10


def rotations(count: int, answered: int = 0) -> list[Ring]:
    rings = [Ring.make(SuiteId.X25519, 1, BLOCKS, OVERLAP, randomness=os.urandom)]
    for _ in range(count):
        rings.append(rings[-1].rotated(SuiteId.X25519, os.urandom, answered=answered))
    return rings


def sealed_at(height: int, ring: Ring) -> OrderedRequest:
    payload = seal(Unsealed(Prompt(b"\xa0"), Secret(bytes(32)), Mode.WHOLE, None), ring.keys[0].key.public, PLACE, 105)
    return ordered(height=height, payload=payload, kind=Kind.SEALED)


def overtaken(count: int) -> tuple[Rings, OrderedRequest]:
    """A cell with block 90 in its queue, renewed `count` times before it comes to answer it."""
    return overtaken_by(rotations(count, answered=10**6))  # of a broker that forgets as fast as it can


def overtaken_by(made: list[Ring]) -> tuple[Rings, OrderedRequest]:
    rings = Rings(made[0])
    rings.hold(90)
    for held, ring in pairwise(made):
        for height in (held.renew, held.through):  # the position moves on; block 90 waits
            rings.hold(height)
            rings.answered(height)
        ring.check_agrees(held)
        rings.renew(ring)
    return rings, sealed_at(90, made[0])


@pytest.mark.parametrize("count", [1, 2, 3, 7])
def test_rotations_that_overtake_the_queue_are_harmless(count: int) -> None:
    rings, waiting = overtaken(count)
    assert rings.unseal(waiting, PLACE).mode is Mode.WHOLE


def test_a_ring_is_let_go_of_once_the_blocks_it_opens_are_answered() -> None:
    made = rotations(4, answered=10**6)
    given = [weakref.ref(ring) for ring in made]
    rings, waiting = overtaken_by(made)
    del made
    rings.unseal(waiting, PLACE)
    rings.answered(90)
    assert rings.of(90) is None
    assert [ring.renew for ring in rings.kept] == [501, 401]  # the newest; the one before it until it holds one
    rings.hold(501)
    rings.answered(501)
    gc.collect()
    assert [alive() is not None for alive in given] == [False, False, False, False, True]


def test_the_older_ring_goes_when_the_newer_speaks_for_what_comes_next() -> None:
    first, second = rotations(1, answered=10**6)
    rings = Rings(first)
    for height in range(100, 151):
        rings.hold(height)
    rings.renew(second)
    rings.hold(151)
    for height in range(100, 152):
        rings.answered(height)
    assert rings.kept == (second,)


def test_a_block_that_no_ring_speaks_for_is_refused_like_any_unknown_key() -> None:
    """Nothing releases such a block; were there one, it would be no reason to end."""
    with pytest.raises(SealedRefused) as refused:
        Rings(rotations(0)[0]).unseal(replace(sealed_at(90, rotations(0)[0]), height=500), PLACE)
    assert refused.value.code == "sealed.key"


def test_a_rotation_forgets_only_keys_whose_blocks_are_all_answered() -> None:
    """answer.md A8: a cell that starts again with the newest ring can still answer what is queued."""
    assert rotations(5)[-1].speaks_for(90)
    assert [key.first for key in rotations(5, answered=110)[-1].keys] == [101, 201, 301, 401, 501, 601]
    assert rotations(5, answered=109)[-1].keys[0].first == 1
    with pytest.raises(KeysRefused) as refused:
        rotations(KEYS_MAX)
    assert refused.value.code == "service-key.full"
