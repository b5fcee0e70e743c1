"""The seeds of the pack fuzzers, and random changes of them, keep their invariants."""

from __future__ import annotations

import random
from types import ModuleType

import pytest

from tests.fuzz import fuzz_pack, fuzz_safetensors

ROUNDS = 300


@pytest.mark.parametrize("fuzzer", [fuzz_pack, fuzz_safetensors], ids=lambda module: module.__name__)
def test_seeds_and_their_neighbours_keep_the_invariant(fuzzer: ModuleType) -> None:
    chance = random.Random(fuzzer.__name__)
    for seed in fuzzer.SEEDS:
        fuzzer.one_input(seed)
        for _ in range(ROUNDS):
            data = bytearray(seed)
            for _ in range(chance.randrange(1, 5)):
                at = chance.randrange(len(data) + 1)
                data[at : at + chance.randrange(3)] = chance.randbytes(chance.randrange(4))
            fuzzer.one_input(bytes(data))
