"""The invariant of tests/fuzz/fuzz_rcar.py over its seeds and a few thousand mutations of them."""

from __future__ import annotations

import random

import pytest

from tests.fuzz.fuzz_rcar import SEEDS, one_input


@pytest.mark.parametrize("number", range(len(SEEDS)))
def test_the_seeds_and_their_mutations(number: int) -> None:
    seed, chance = SEEDS[number], random.Random(number)
    one_input(seed)
    for _ in range(120):
        data = bytearray(seed)
        for _ in range(chance.randrange(1, 4)):
            if data:
                at = chance.randrange(len(data))
                match chance.randrange(3):
                    case 0:
                        data[at] = chance.randrange(256)
                    case 1:
                        del data[at : at + chance.randrange(1, 9)]
                    case _:
                        data[at:at] = chance.choice([b'"', b"{", b"}", b"\\ud800", b"0", b"[", b"null", b"\x00"])
        one_input(bytes(data))
