"""The CUDA kernels of the fixed engine: on a processor thread by thread, through nvcc, and on a GPU where there is one.

The emulation shows the order of every sum, which is what engine.md is about; that a GPU rounds single operations as
IEEE 754 has it is shown by the self-test on a GPU (`python -m bench.gpu`).
"""

from __future__ import annotations

import math
import random
import shutil
import struct
from array import array
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from appliance.engine.fixed import self_test
from appliance.engine.fixed.architecture import GROUPS, Architecture, Format, Quantization, Tensor, Weights
from appliance.engine.fixed.engine import FixedEngine
from appliance.engine.fixed.kernels_build import build_for_device
from appliance.engine.fixed.library import CMatrix, Library
from appliance.engine.fixed.memory import Held
from appliance.engine.fixed.model import Model, row_bytes
from appliance.engine.fixed.proven import open_device, open_library
from appliance.engine.fixed.quantization import QuantizedWeights, quantized
from appliance.engine.fixed.random_weights import MadeWeights
from tests import fixed_reference as plain
from tests.fixed_models import BITS, FAMILIES, engine, multiplied, request, steps, weights

CODES = {Format.BF16: 0, Format.INT8: 1, Format.INT4: 2}
QUANTIZATIONS = [
    Quantization(),
    *(Quantization(form, group) for form in (Format.INT8, Format.INT4) for group in GROUPS),
]
WILD = (0.0, -0.0, math.inf, -math.inf, math.nan, 2.0**60, -(2.0**59.99), 2.0**-50, -(2.0**-50.01), 1e-40, 3e38)
needs_gxx = pytest.mark.skipif(shutil.which("g++") is None, reason="no g++ to build the emulation with")


@pytest.fixture(scope="module")
def emulated(tmp_path_factory: pytest.TempPathFactory) -> Library:
    """Opened as a device is: `open_device` has already held it against the self-test's digest (engine.md X18)."""
    path = tmp_path_factory.mktemp("cuda") / "emulated.so"
    build_for_device(path, emulated=True)
    return open_device(path)


@needs_gxx
def test_the_emulated_device_gives_the_digest_of_every_variant(emulated: Library) -> None:
    assert self_test.digest(emulated) == self_test.DIGEST


@needs_gxx
@pytest.mark.parametrize("bits", BITS)
@pytest.mark.parametrize("family", FAMILIES)
def test_a_device_reaches_no_bit(emulated: Library, family: str, bits: str) -> None:
    """engine.md X20, with a device for a variant: passes of several rows, of a remainder, of guesses, and of one."""
    device = FixedEngine(weights(family, bits), library=emulated, rows_max=7)
    for temperature in (0.0, 1.0):
        asked = request(15, 6, temperature)
        assert steps(device, asked) == steps(engine(family, bits), asked)


def product(library: Library, tensor: Tensor, x: list[list[float]], group: int) -> list[list[float]]:
    rows, columns = tensor.shape
    data, scales = Held(tensor.data), Held(tensor.scales) if tensor.scales is not None else None
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
    y = array("f", multiplied(library.kernels, library.variant, matrix, x))
    return [list(y[m * rows : (m + 1) * rows]) for m in range(len(x))]


def exactly(found: list[list[float]]) -> list[list[str]]:
    """Bits, but of a NaN only that it is one (engine.md X17)."""
    return [["nan" if math.isnan(number) else number.hex() for number in row] for row in found]


def made_tensor(rng: random.Random, rows: int, columns: int, quantization: Quantization) -> Tensor:
    numbers = [0x3C00 + rng.randrange(0x200) | rng.randrange(2) << 15 for _ in range(rows * columns)]
    tensor = Tensor(Format.BF16, (rows, columns), memoryview(struct.pack(f"<{len(numbers)}H", *numbers)))
    return tensor if quantization.format is Format.BF16 else quantized(tensor, quantization, open_library())


@needs_gxx
@settings(max_examples=25, deadline=None)
@given(
    st.sampled_from(QUANTIZATIONS),
    st.integers(1, 19),
    st.integers(1, 700) | st.sampled_from([64, 512, 513, 1024, 1056, 2048, 2049, 4096, 4097]),
    st.integers(1, 18),
    st.integers(0, 3),
    st.integers(0, 1 << 32),
)
def test_products_of_any_size(
    emulated: Library, quantization: Quantization, rows: int, columns: int, m: int, wild: int, seed: int
) -> None:
    """engine.md X3 to X8: lines, pieces and tiles that end anywhere; numbers that no product takes as they are."""
    rng = random.Random(seed)
    tensor = made_tensor(rng, rows, columns, quantization)
    x = [[rng.uniform(-3, 3) for _ in range(columns)] for _ in range(m)]
    for _ in range(wild):
        rng.choice(x)[rng.randrange(columns)] = rng.choice(WILD)
    group = quantization.group
    got = exactly(product(emulated, tensor, x, group))
    assert got == exactly(product(open_library(), tensor, x, group))
    if rows * columns < 4000:
        taken = [plain.f32(number) for number in x[-1]]
        assert got[-1:] == exactly([plain.product(tensor, taken, group)])


@needs_gxx
@settings(max_examples=10, deadline=None)
@given(st.sampled_from(QUANTIZATIONS[1:]), st.integers(1, 600), st.integers(0, 1 << 32))
def test_scales_of_any_size(emulated: Library, quantization: Quantization, columns: int, seed: int) -> None:
    """engine.md X7: a model's own scales are any finite bf16, subnormal ones too."""
    rng = random.Random(seed)
    tensor = made_tensor(rng, 5, columns, quantization)
    count = 5 * -(-columns // quantization.group)
    scales = [rng.randrange(0x7F80) | rng.randrange(2) << 15 for _ in range(count)]
    tensor = Tensor(tensor.format, tensor.shape, tensor.data, memoryview(struct.pack(f"<{count}H", *scales)))
    x = [[rng.uniform(-3, 3) for _ in range(columns)] for _ in range(3)]
    got = exactly(product(emulated, tensor, x, quantization.group))
    assert got == exactly(product(open_library(), tensor, x, quantization.group))


@st.composite
def architectures(draw: st.DrawFn) -> Architecture:
    kv_heads = draw(st.integers(1, 3))
    head_width = draw(st.integers(2, 40))
    return Architecture(
        layers=draw(st.integers(1, 2)),
        width=draw(st.integers(1, 70)),
        heads=kv_heads * draw(st.integers(1, 3)),
        kv_heads=kv_heads,
        head_width=head_width,
        hidden=draw(st.integers(1, 700)),
        vocabulary=draw(st.integers(2, 60)),
        positions_max=24,
        epsilon=1e-5,
        rotary_width=2 * draw(st.integers(1, head_width // 2)),
        tied=draw(st.booleans()),
        attention_bias=draw(st.booleans()),
        output_bias=draw(st.booleans()),
        head_norm=draw(st.booleans()),
        window=draw(st.none() | st.integers(1, 12)),
    )


@needs_gxx
@settings(max_examples=20, deadline=None)
@given(architectures(), st.sampled_from(QUANTIZATIONS), st.integers(1, 9))
def test_any_shape(emulated: Library, shape: Architecture, quantization: Quantization, rows: int) -> None:
    """engine.md X2 to X17: rows that fill no block, heads of any width, windows shorter than a pass."""
    host, made = open_library(), MadeWeights(shape)
    model = made if quantization.format is Format.BF16 else QuantizedWeights(made, quantization, host)
    assert logits(emulated, model, rows) == logits(host, model, rows)


def logits(library: Library, weights: Weights, rows: int) -> list[bytes]:
    """Of all rows of one pass, and of one row after it."""
    running = Model(weights, library, threads=1, rows_max=rows)
    cache = running.cache(rows + 1)
    tokens = [token % weights.architecture.vocabulary for token in range(rows)]
    rowed = running.forward(tokens, [cache] * rows, range(rows), range(rows))
    found = [running.logits(at) for at in rowed]
    (at,) = running.forward([1], [cache], [rows], [0])
    return [*found, running.logits(at)]


@needs_gxx
@pytest.mark.parametrize("bits", [Quantization(), Quantization(Format.INT4, 64)], ids=["bf16", "int4"])
def test_wide_heads_and_room_for_few_scores(emulated: Library, bits: Quantization) -> None:
    """engine.md X12 to X14: heads of more pairs than a block has threads, several spans, passes attended in parts."""
    shape = Architecture(
        layers=1,
        width=33,
        heads=2,
        kv_heads=1,
        head_width=578,
        hidden=40,
        vocabulary=30,
        positions_max=1 << 18,
        epsilon=1e-5,
        rotary_width=2,
    )
    host, made = open_library(), MadeWeights(shape)
    model = made if bits.format is Format.BF16 else QuantizedWeights(made, bits, host)
    assert logits(emulated, model, 140) == logits(host, model, 140)


@pytest.mark.full
@pytest.mark.skipif(shutil.which("nvcc") is None, reason="no nvcc here")
def test_the_sources_compile_for_a_gpu(tmp_path: Path) -> None:
    build_for_device(tmp_path / "fixed_cuda.so")
    assert (tmp_path / "fixed_cuda.so").stat().st_size > 100_000


@pytest.mark.gpu
@pytest.mark.skipif(shutil.which("nvidia-smi") is None, reason="no GPU here")
def test_a_gpu_gives_the_same_bits(tmp_path: Path) -> None:
    """engine.md X18 and X20, where there is a GPU."""
    build_for_device(tmp_path / "fixed_cuda.so")
    device = FixedEngine(weights("llama"), library=open_device(tmp_path / "fixed_cuda.so"))
    assert steps(device, request()) == steps(engine(), request())
