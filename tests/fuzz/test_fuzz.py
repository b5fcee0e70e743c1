"""Every fuzzer's invariant on its seeds and on a few thousand mutations of them: the same in every plain test run.

The long, coverage-guided search is `python -m tests.fuzz.drive`.
"""

from __future__ import annotations

import importlib
import random
from collections.abc import Callable

import pytest

from tests.fuzz.drive import names
from tests.switches import sized

MUTATIONS = sized("ANCHORHOLD_MUTATIONS")
INPUT_BYTES_MAX = 4096


def module(name: str) -> tuple[Callable[[bytes], None], list[bytes]]:
    fuzzer = importlib.import_module(f"tests.fuzz.{name}")
    return fuzzer.one_input, fuzzer.SEEDS


def mutated(source: random.Random, seeds: list[bytes]) -> bytes:
    data = bytearray(source.choice(seeds))
    for _ in range(source.randint(1, 6)):
        at = source.randint(0, len(data))
        match source.randrange(6):
            case 0 if data:
                data[at % len(data)] ^= 1 << source.randrange(8)
            case 1 if data:
                data[at % len(data)] = source.choice([0, 1, 0x7F, 0x80, 0xFF, source.randrange(256)])
            case 2:
                data[at:at] = source.randbytes(source.randint(1, 8))
            case 3:
                del data[at : at + source.randint(1, 16)]
            case 4:
                data[at:at] = data[at : at + source.randint(1, 64)]
            case _:
                other = source.choice(seeds)
                data[at:] = other[min(at, len(other)) :]
    return bytes(data[:INPUT_BYTES_MAX])


@pytest.mark.parametrize("name", names())
def test_the_invariant_holds_for_the_seeds(name: str) -> None:
    one_input, seeds = module(name)
    assert seeds, "a fuzzer without seeds begins blind"
    for seed in seeds:
        one_input(seed)


@pytest.mark.sized
@pytest.mark.parametrize("name", names())
def test_the_invariant_holds_for_mutations_of_the_seeds(name: str) -> None:
    one_input, seeds = module(name)
    source = random.Random(name)
    for number in range(MUTATIONS):
        data = mutated(source, seeds)
        try:
            one_input(data)
        except Exception as reason:
            reason.add_note(f"{name}, mutation {number}: {data.hex()}")
            raise
