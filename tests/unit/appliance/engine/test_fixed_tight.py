"""Tight rows: bf16 weights in three quarters of their bytes, and not another bit in any product (engine.md X20)."""

from __future__ import annotations

import ctypes
import random
import struct
from array import array
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from appliance.engine.errors import EngineRefused
from appliance.engine.fixed.architecture import Architecture, Format, Tensor
from appliance.engine.fixed.library import CMatrix, Library, declared
from appliance.engine.fixed.memory import Held, HugeMemory
from appliance.engine.fixed.model import Model
from appliance.engine.fixed.proven import open_library
from appliance.engine.fixed.random_weights import MadeWeights
from appliance.engine.fixed.tight import row_bytes, tighten
from tests.fixed_models import FAMILIES, multiplied, prompt, variants

COMMON = [sign | upper for upper in range(0x39, 0x3F) for sign in (0, 0x80)]
RARE = [sign | upper for upper in range(0x27, 0x39) for sign in (0, 0x80)]


def drawn(rows: int, columns: int, seed: int, *, rare: float) -> array[int]:
    dice = random.Random(seed)
    return array(
        "H",
        [
            dice.choice(RARE if dice.random() < rare else COMMON) << 8 | dice.randrange(256)
            for _ in range(rows * columns)
        ],
    )


def matrix_of(numbers: array[int], rows: int) -> tuple[CMatrix, Held]:
    held = Held(memoryview(numbers.tobytes()))
    columns = len(numbers) // rows
    return CMatrix(held.address, None, 2 * columns, 0, rows, columns, 0, 0), held


def tightened(numbers: array[int], rows: int) -> tuple[CMatrix, Held]:
    matrix, plain = matrix_of(numbers, rows)
    held = tighten(declared(), matrix)
    assert held is not None
    del plain  # tight rows stand by themselves
    return matrix, held


@settings(max_examples=60, deadline=None)
@given(
    rows=st.integers(1, 29),
    columns=st.integers(1, 300),
    m=st.integers(1, 9),
    seed=st.integers(0, 1 << 32),
    rare=st.sampled_from([0.0, 0.001, 0.003]),
)
def test_a_product_does_not_feel_them(rows: int, columns: int, m: int, seed: int, rare: float):
    numbers = drawn(rows, columns, seed, rare=rare)
    dice = random.Random(seed)
    x = [[dice.uniform(-3, 3) for _ in range(columns)] for _ in range(m)]
    plain, held = matrix_of(numbers, rows)
    matrix, _ = matrix_of(numbers, rows)
    rows_of_it = tighten(declared(), matrix)
    if rows_of_it is None:  # a small matrix with too many rare numbers stays as it is
        assert sum(number >> 8 in RARE for number in numbers) * 256 > len(numbers)
        return
    assert matrix.uppers
    assert matrix.row_bytes == row_bytes(columns)
    for variant in variants():
        assert multiplied(declared(), variant, matrix, x, threads=2) == multiplied(declared(), variant, plain, x)
    assert held.bytes == 2 * len(numbers)


def test_every_weight_is_the_one_that_was():
    rows, columns = 7, 200
    numbers = drawn(rows, columns, 1, rare=0.003)
    assert any(number >> 8 in RARE for number in numbers)
    matrix, _held = tightened(numbers, rows)
    ones = [[float(k == column) for k in range(columns)] for column in range(columns)]
    for variant in variants():
        for asked in (ones, ones[:1], ones[1:3], ones[3:6]):  # many rows of x, and few
            got = array("f", multiplied(declared(), variant, matrix, asked))
            first = ones.index(asked[0])
            for place in range(len(asked)):
                column = [struct.pack("<I", numbers[n * columns + first + place] << 16) for n in range(rows)]
                assert got[place * rows : (place + 1) * rows].tobytes() == b"".join(column)


def test_they_take_three_quarters_and_a_few_patches():
    numbers = drawn(64, 1024, 2, rare=0.001)
    matrix, held = tightened(numbers, 64)
    assert row_bytes(1024) == matrix.row_bytes == 2 * 1024 * 3 // 4
    patches = (held.bytes - 64 * matrix.row_bytes - 16 - 4 * 33) // 8
    uppers = set((ctypes.c_ubyte * 16).from_address(matrix.uppers))
    assert patches == sum(number >> 8 not in uppers for number in numbers) > 0


def test_weights_of_too_many_kinds_stay_as_they_are():
    numbers = drawn(8, 512, 3, rare=0.5)
    matrix, held = matrix_of(numbers, 8)
    assert tighten(declared(), matrix) is None
    assert (matrix.data, matrix.format, matrix.row_bytes) == (held.address, 0, 1024)
    assert not matrix.uppers


def test_no_memory_for_weights_is_a_refusal():
    with pytest.raises(EngineRefused, match=r"engine\.memory"):
        HugeMemory(declared(), 1 << 60)


class Outlying(MadeWeights):
    """One weight in a thousand is of a size of its own; of one matrix, every third."""

    def tensor(self, name: str) -> Tensor:
        tensor = super().tensor(name)
        if "norm" in name or tensor.format is not Format.BF16:
            return tensor
        numbers, dice = array("H", bytes(tensor.data)), random.Random(name)
        step = 3 if "layers.0.mlp.up" in name else 1009
        for at in range(0, len(numbers), step):
            numbers[at] = dice.choice(RARE) << 8 | numbers[at] & 0xFF
        return replace(tensor, data=memoryview(numbers.tobytes()))


@pytest.mark.parametrize("architecture", FAMILIES.values(), ids=FAMILIES)
def test_nor_does_a_model(architecture: Architecture):  # engine.md X20
    weights = Outlying(architecture)
    tokens = prompt(9)
    for variant in variants():
        found = []
        for tight in (False, True):
            model = Model(weights, Library(declared(), variant), threads=2, tight=tight)
            cache = model.cache()
            every = model.forward(tokens[:-1], [cache] * 8, range(8), range(8))
            logits = [model.logits(at) for at in every]
            (last,) = model.forward(tokens[-1:], [cache], [8], [0])
            found.append([*logits, model.logits(last)])
        assert found[0] == found[1]


class Tiny(MadeWeights):
    def tensor(self, name: str) -> Tensor:
        tensor = super().tensor(name)
        if not name.endswith("q_proj.weight"):
            return tensor
        return replace(tensor, data=memoryview(b"\x01\x00" + bytes(tensor.data)[2:]))


def test_what_is_too_small_to_multiply_by_is_gone_before():  # engine.md X6
    found = []
    for tight in (False, True):
        model = Model(Tiny(FAMILIES["llama"]), open_library(), threads=1, tight=tight)
        (at,) = model.forward([3], [model.cache()], [0], [0])
        found.append(model.logits(at))
    assert found[0] == found[1]
