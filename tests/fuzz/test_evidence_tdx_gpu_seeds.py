"""The seeds of the TDX, event log and GPU fuzzers, and random changes of them, keep their invariants."""

from __future__ import annotations

import random
from types import ModuleType

import pytest

from tests.fuzz import fuzz_event_log, fuzz_gpu_report, fuzz_tdx_quote

ROUNDS = 300


@pytest.mark.parametrize("fuzzer", [fuzz_tdx_quote, fuzz_event_log, fuzz_gpu_report], ids=lambda m: m.__name__)
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
