"""The fuzzers' seeds, and seeded mutations of them, as plain tests. evidence.md E9, E12."""

from __future__ import annotations

import random
from types import ModuleType

import pytest
from cryptography.hazmat.primitives.serialization import Encoding

from attestation.evidence.snp_report import KeyKind
from tests.fuzz import fuzz_snp_report, fuzz_vek_extensions
from tests.unit.attestation.forge import Forge, make_once


def mutated(seed: bytes, chance: random.Random) -> bytes:
    raw = bytearray(seed)
    for _ in range(chance.randint(1, 4)):
        match chance.randrange(3):
            case 0 if raw:
                raw[chance.randrange(len(raw))] = chance.randrange(256)
            case 1 if raw:
                del raw[chance.randrange(len(raw))]
            case _:
                raw.insert(chance.randint(0, len(raw)), chance.randrange(256))
    return bytes(raw)


@pytest.mark.parametrize("fuzzer", [fuzz_snp_report, fuzz_vek_extensions])
def test_seeds_and_mutations(fuzzer: ModuleType) -> None:
    chance = random.Random(20)
    for seed in fuzzer.SEEDS:
        fuzzer.one_input(seed)
        for _ in range(200):
            fuzzer.one_input(mutated(seed, chance))


def test_mutations_of_a_whole_certificate() -> None:
    chance = random.Random(21)
    seed = make_once(Forge(), "vek", KeyKind.VCEK).public_bytes(Encoding.DER)
    for _ in range(500):
        fuzz_vek_extensions.one_input(mutated(seed, chance))
