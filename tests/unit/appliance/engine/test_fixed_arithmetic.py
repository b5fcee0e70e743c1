"""The kernels against the plain reference, bit by bit: engine.md X1 to X18."""

from __future__ import annotations

import math
import random
import struct
from array import array
from fractions import Fraction
from hashlib import sha256

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from appliance.engine.errors import EngineRefused
from appliance.engine.fixed import self_test
from appliance.engine.fixed.architecture import Format, Quantization, Tensor
from appliance.engine.fixed.library import PATH, CMatrix, Library, Variant, declared
from appliance.engine.fixed.memory import Held
from appliance.engine.fixed.model import Model, row_bytes
from appliance.engine.fixed.proven import open_library
from appliance.engine.fixed.quantization import QuantizedWeights, quantized
from appliance.engine.fixed.random_weights import MadeWeights
from tests import fixed_reference as plain
from tests.elsewhere import brought
from tests.fixed_models import FAMILIES, multiplied, prompt, variants, weights
from tests.fixed_reference import Reference, dot, exponential, f32, fma, narrow, widen

CODES = {Format.BF16: 0, Format.INT8: 1, Format.INT4: 2}
BF16 = st.integers(0, 0xFFFF)
FACTORS = st.builds(int.__or__, st.just(0) | st.integers(0x2680, 0x5D7F), st.sampled_from([0, 0x8000]))


def bf16_tensor(numbers: list[int], rows: int) -> Tensor:
    data = struct.pack(f"<{len(numbers)}H", *numbers)
    return Tensor(Format.BF16, (rows, len(numbers) // rows), memoryview(data))


def product(variant: Variant, tensor: Tensor, x: list[list[float]], group: int = 0, threads: int = 1) -> list[bytes]:
    rows, columns = tensor.shape
    data = Held(tensor.data)
    scales = Held(tensor.scales) if tensor.scales is not None else None
    matrix = CMatrix(
        data.address,
        scales.address if scales else None,
        row_bytes(tensor.format, columns),
        -(-columns // group) if group else 0,
        rows,
        columns,
        group,
        CODES[tensor.format],
    )
    raw = multiplied(declared(), variant, matrix, x, threads)
    return [raw[i : i + 4 * rows] for i in range(0, len(raw), 4 * rows)]


def floats(numbers: list[float]) -> bytes:
    return struct.pack(f"<{len(numbers)}f", *numbers)


def test_the_example_of_the_specification():  # engine.md X3, X4, X9
    w, x = [plain.factor(1 / (k + 3)) for k in range(100)], [plain.factor(1 / (k + 1) ** 3) for k in range(100)]
    assert dot(w, x) == float.fromhex("0x1.830b14p-2")
    exact = sum((Fraction(a) * Fraction(b) for a, b in zip(w, x, strict=True)), Fraction())
    assert f32(float(exact)) == float.fromhex("0x1.830b12p-2")
    assert exponential(-1.0) == float.fromhex("0x1.78b564p-2")
    assert exponential(0.5) == float.fromhex("0x1.a61298p+0")


def test_the_reference_itself_gives_the_digest_of_the_self_test():  # engine.md X10 to X18
    library, found = open_library(), sha256()
    for architecture, quantization, count in self_test.CASES:
        made = MadeWeights(architecture)
        held = made if quantization.format is Format.BF16 else QuantizedWeights(made, quantization, library)
        reference = Reference(held)
        rows = [reference.step(token) for token in self_test.tokens_of(architecture, count)]
        for row in rows[-4:]:
            found.update(floats(row))
    assert found.hexdigest() == self_test.DIGEST


@pytest.mark.parametrize("variant", Variant, ids=lambda v: v.name.lower())
def test_every_variant_gives_the_digest(variant: Variant):  # engine.md X18, X20
    if variant not in variants():
        pytest.skip(f"this processor has no {variant.name}")
    assert self_test.digest(Library(declared(), variant)) == self_test.DIGEST


@pytest.mark.parametrize("family", FAMILIES)
def test_a_family_against_the_reference(family: str):  # engine.md X11, X12, X15, X16
    tokens = prompt(2 if family == "llama" else 4)
    held = weights(family)
    reference = Reference(held)
    expected = [floats(reference.step(token)) for token in tokens]
    for variant in variants():
        model = Model(held, Library(declared(), variant), threads=2)
        cache = model.cache()
        for position, token in enumerate(tokens):
            (at,) = model.forward([token], [cache], [position], [0])
            assert model.logits(at) == expected[position]


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_products_of_any_size(data: st.DataObject):  # engine.md X2 to X7
    rows, columns, m = data.draw(st.integers(1, 21)), data.draw(st.integers(1, 300)), data.draw(st.integers(1, 7))
    group = data.draw(st.sampled_from([32, 64, 128]))
    form = data.draw(st.sampled_from(list(Format)))
    rng = random.Random(data.draw(st.integers(0, 1 << 32)))
    numbers = [0x3C00 + rng.randrange(0x200) | rng.randrange(2) << 15 for _ in range(rows * columns)]
    tensor = bf16_tensor(numbers, rows)
    if form is not Format.BF16:
        tensor = quantized(tensor, Quantization(form, group), open_library())
    x = [[f32(rng.uniform(-3, 3)) for _ in range(columns)] for _ in range(m)]
    group = group if form is not Format.BF16 else 0
    expected = [floats(plain.product(tensor, row, group)) for row in x[:2]]
    for variant in variants():
        got = product(variant, tensor, x, group, threads=2)
        assert got[:2] == expected
        assert got == [product(variant, tensor, [row], group)[0] for row in x]


@pytest.mark.parametrize("form", Format, ids=lambda f: f.value)
def test_rows_longer_than_2048(form: Format):  # engine.md X4, X7
    rows, columns, group = 6, 2048 + 77, 128 if form is not Format.BF16 else 0
    numbers = [0x3C00 + (i * i * 31) % 0x180 | (i % 3 == 0) << 15 for i in range(rows * columns)]
    tensor = bf16_tensor(numbers, rows)
    if form is not Format.BF16:
        tensor = quantized(tensor, Quantization(form, group), open_library())
    x = [[f32(math.sin(i * (m + 1))) for i in range(columns)] for m in range(5)]
    expected = floats(plain.product(tensor, x[0], group))
    answers = [product(variant, tensor, x, group) for variant in variants()]
    assert all(answer[0] == expected and answer == answers[0] for answer in answers)


@pytest.mark.parametrize("offset", [1, 2, 31])
def test_tensors_lie_where_their_file_puts_them(offset: int):  # engine.md X6
    aligned = bf16_tensor([0x3C00 + i % 400 for i in range(5 * 100)], 5)
    moved = Tensor(aligned.format, aligned.shape, memoryview(bytes(offset) + bytes(aligned.data))[offset:])
    x = [[f32(i / 7) for i in range(100)]]
    for variant in variants():
        assert product(variant, moved, x) == product(variant, aligned, x)


@settings(max_examples=60, deadline=None)
@given(st.lists(FACTORS, min_size=1, max_size=70), st.lists(st.floats(width=32), min_size=70, max_size=70))
def test_any_numbers_at_all(numbers: list[int], x: list[float]):  # engine.md X1, X4, X6: subnormal, infinite, NaN
    tensor = bf16_tensor(numbers, 1)
    (expected,) = plain.product(tensor, x[: len(numbers)])
    for variant in variants():
        (got,) = struct.unpack("<f", product(variant, tensor, [x[: len(numbers)]])[0])
        assert math.isnan(got) if math.isnan(expected) else floats([got]) == floats([expected])


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_quantized_products_of_any_numbers(data: st.DataObject):  # engine.md X7, X8
    columns, group = data.draw(st.integers(1, 70)), data.draw(st.sampled_from([32, 64, 128]))
    form = data.draw(st.sampled_from([Format.INT8, Format.INT4]))
    x = data.draw(st.lists(st.floats(width=32), min_size=columns, max_size=columns))
    tensor = quantized(
        bf16_tensor([0x3C00 + 37 * i % 400 for i in range(columns)], 1), Quantization(form, group), open_library()
    )
    (expected,) = plain.product(tensor, x, group)
    for variant in variants():
        (got,) = struct.unpack("<f", product(variant, tensor, [x], group)[0])
        assert math.isnan(got) if math.isnan(expected) else floats([got]) == floats([expected])


@given(st.floats(width=32))
def test_a_factor_is_neither_tiny_nor_wild(x: float):  # engine.md X6
    got = plain.factor(x)
    if abs(x) < 2.0**-51:
        assert floats([got]) == floats([0.0])
    elif not abs(x) < 2.0**60:
        assert math.isnan(got)
    elif abs(got) >= 2.0**-50:
        assert got == widen(narrow(x))


@pytest.mark.parametrize(
    "x",
    [
        2.0**-50,
        -(2.0**-50),
        2.0**-50 * (1 - 2.0**-10),
        2.0**-50 * (1 - 2.0**-8),
        2.0**-149,
        2.0**60 * (1 - 2.0**-8),
        2.0**60 * (1 - 2.0**-10),
        -(2.0**60),
        math.inf,
        math.nan,
    ],
)
def test_the_bounds_of_a_factor(x: float):  # engine.md X6
    (expected,) = plain.product(bf16_tensor([0x3F80], 1), [x])
    for variant in variants():
        (got,) = struct.unpack("<f", product(variant, bf16_tensor([0x3F80], 1), [[x]])[0])
        assert math.isnan(got) if math.isnan(expected) else floats([got]) == floats([expected])


@pytest.mark.parametrize(
    "x",
    [2.0**-50, f32(2.0**-50 * (1 - 2.0**-24)), 2.0**-149, f32(2.0**60 * (1 - 2.0**-24)), 2.0**60, -math.inf, math.nan],
)
def test_the_bounds_of_a_block(x: float):  # engine.md X8
    tensor = quantized(bf16_tensor([0x3F80] * 32, 1), Quantization(Format.INT8, 32), open_library())
    (expected,) = plain.product(tensor, [x] * 32, 32)
    for variant in variants():
        (got,) = struct.unpack("<f", product(variant, tensor, [[x] * 32], 32)[0])
        assert math.isnan(got) if math.isnan(expected) else floats([got]) == floats([expected])


def test_no_sum_of_factors_can_become_subnormal():  # engine.md X6: so a processor that flushes them is not felt
    least = widen(0x2680)
    assert least == 2.0**-50
    numbers, x = [0x2680, 0x2681, 0xA680], [least, -least, f32(least * (1 + 2.0**-7))]
    (expected,) = plain.product(bf16_tensor(numbers, 1), x)
    assert expected != 0
    assert abs(expected) >= 2.0**-114
    assert {product(variant, bf16_tensor(numbers, 1), [x])[0] for variant in variants()} == {floats([expected])}


def head_of(changes: dict[int, int]) -> MadeWeights:
    class Changed(MadeWeights):
        def tensor(self, name: str) -> Tensor:
            made = super().tensor(name)
            if name != "lm_head.weight":
                return made
            data = array("H", bytes(made.data))
            for index, bits in changes.items():
                data[index] = bits
            return Tensor(made.format, made.shape, memoryview(data.tobytes()))

    return Changed(FAMILIES["llama"])


def first_logits(held: MadeWeights, variant: Variant) -> bytes:
    model = Model(held, Library(declared(), variant), threads=1)
    (at,) = model.forward([1], [model.cache()], [0], [0])
    return bytes(model.logits(at))


def test_tiny_weights_count_as_nothing():  # engine.md X6
    tiny = {0: 0x267F, 5: 0x8001, 9: 0x0080}
    for variant in variants():
        assert first_logits(head_of(tiny), variant) == first_logits(head_of(dict.fromkeys(tiny, 0)), variant)


@pytest.mark.parametrize("bits", [0x5D80, 0xDD80, 0x7F80, 0x7FC0, 0xFFFF])
def test_weights_of_2_to_the_60_and_more_are_refused(bits: int):  # engine.md X6
    with pytest.raises(EngineRefused, match=r"2\^60 in lm_head"):
        first_logits(head_of({7: bits}), Variant.SCALAR)


@settings(max_examples=200, deadline=None)
@given(st.floats(width=32, allow_nan=False, allow_infinity=False), BF16, st.floats(width=32, allow_nan=False))
def test_fused_is_rounded_once(a: float, b: int, c: float):  # engine.md X1
    w = widen(b)
    if not (math.isfinite(w) and math.isfinite(c)):
        return
    got, true = fma(a, w, c), Fraction(a) * Fraction(w) + Fraction(c)
    if math.isinf(got):
        assert abs(true) >= Fraction(2) ** 128 - Fraction(2) ** 103
        return
    below, above = (float32_next(got, way) for way in (-math.inf, math.inf))
    for other in (below, above):
        if math.isfinite(other):
            assert abs(Fraction(got) - true) <= abs(Fraction(other) - true)


def float32_next(x: float, towards: float) -> float:
    (bits,) = struct.unpack("<i", floats([x]))
    if x == 0:
        return math.copysign(2.0**-149, towards)
    step = 1 if (towards > x) == (x > 0) else -1
    return struct.unpack("<f", struct.pack("<i", bits + step))[0]


@given(st.floats(width=32))
def test_bf16_is_the_nearest(x: float):  # engine.md X5
    got = widen(narrow(x))
    if math.isnan(x):
        assert narrow(x) == 0x7FC0
    elif math.isfinite(got):
        around = [widen(narrow(got) + step & 0xFFFF) for step in (-1, 1)]
        assert all(abs(got - x) <= abs(other - x) for other in around if math.isfinite(other))


@given(st.floats(-87, 88, width=32))
def test_the_exponential_is_close(x: float):  # engine.md X9
    assert exponential(x) == pytest.approx(math.exp(x), rel=1.2e-7)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(BF16.filter(lambda b: b & 0x7F80 != 0x7F80), min_size=1, max_size=140),
    st.sampled_from([32, 64, 128]),
    st.sampled_from([Format.INT8, Format.INT4]),
)
def test_quantizing_follows_its_rule(numbers: list[int], group: int, form: Format):  # engine.md X8
    made = quantized(bf16_tensor(numbers, 1), Quantization(form, group), open_library())
    codes, scales = quantized_plainly([widen(b) for b in numbers], group, form)
    assert made.scales is not None
    assert list(memoryview(bytes(made.scales)).cast("H")) == scales
    blocks = -(-len(numbers) // 32)
    got = [plain.code_at(bytes(made.data), form, blocks, k) for k in range(32 * blocks)]
    codes += [0] * (32 * blocks - len(codes))
    assert got == codes


def quantized_plainly(numbers: list[float], group: int, form: Format) -> tuple[list[int], list[int]]:
    codes, scales = [], []
    for start in range(0, len(numbers), group):
        part = numbers[start : start + group]
        extreme = max(part, key=abs) if any(part) else 0.0
        scale = widen(narrow(f32(abs(extreme) / 127) if form is Format.INT8 else f32(extreme / -8)))
        if not 2.0**-50 <= abs(scale) <= 2.0**50:
            scale = 0.0
        scales.append(narrow(scale))
        low, high = (-127, 127) if form is Format.INT8 else (-8, 7)
        codes += [min(max(round(f32(w / scale)) if scale else 0, low), high) for w in part]
    return codes, scales


@pytest.mark.torch
def test_flushing_of_subnormals_in_the_process_is_not_felt():  # engine.md X1
    torch = brought("torch")
    if not torch.set_flush_denormal(True):
        pytest.skip("this processor flushes nothing")
    try:
        tensor = quantized(bf16_tensor([0x2680] * 32, 1), Quantization(Format.INT8, 32), open_library())
        answers = [product(variant, tensor, [[2.0**-49] * 32], 32)[0] for variant in variants()]
        logits = first_logits(head_of({}), Variant.SCALAR)
    finally:
        torch.set_flush_denormal(False)
    assert set(answers) == {floats(plain.product(tensor, [2.0**-49] * 32, 32))}
    assert logits == first_logits(head_of({}), Variant.SCALAR)


def test_a_logit_that_is_no_number_is_one_nan():  # engine.md X17
    class Poisoned(MadeWeights):
        def tensor(self, name: str) -> Tensor:
            made = super().tensor(name)
            if name != "model.norm.weight":
                return made
            return Tensor(made.format, made.shape, memoryview(b"\xff\xff" + bytes(made.data)[2:]))

    for variant in variants():
        row = array("I", first_logits(Poisoned(FAMILIES["llama"]), variant))
        assert set(row) == {0x7FC00000}


def test_a_library_that_computes_otherwise_is_refused(tmp_path):  # engine.md X18
    coefficient = struct.pack("<f", float.fromhex("0x1.120be2p-7"))
    genuine = PATH.read_bytes()
    assert coefficient in genuine
    broken = tmp_path / "_kernels.so"
    broken.write_bytes(genuine.replace(coefficient, struct.pack("<f", float.fromhex("0x1.130be2p-7"))))
    with pytest.raises(EngineRefused, match=r"engine\.self-test"):
        self_test.check(Library(declared(broken), Variant.SCALAR))


def test_a_library_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(EngineRefused, match="make setup"):
        declared(tmp_path / "_kernels.so")


def test_a_file_that_is_no_library_is_refused(tmp_path):
    (tmp_path / "_kernels.so").write_bytes(b"not ELF")
    with pytest.raises(EngineRefused, match=r"engine\.no-kernels"):
        declared(tmp_path / "_kernels.so")
