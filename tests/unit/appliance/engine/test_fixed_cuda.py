"""The CUDA kernels of the fixed engine: on a processor thread by thread, through nvcc, and on a GPU where there is one.

The emulation shows the order of every sum, which is what engine.md is about; that a GPU rounds single operations as
IEEE 754 has it is shown by the self-test on a GPU (`python -m bench.gpu`).
"""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from appliance.engine.fixed import self_test
from appliance.engine.fixed.architecture import Architecture, Format, Quantization
from appliance.engine.fixed.engine import FixedEngine
from appliance.engine.fixed.library import Library, open_device, open_library
from appliance.engine.fixed.made import MadeWeights
from appliance.engine.fixed.model import Model
from appliance.engine.fixed.quantizing import QuantizedWeights
from bench._device_library import build
from tests.fixed_models import BITS, FAMILIES, engine, request, steps, weights

QUANTIZATIONS = [Quantization(), Quantization(Format.INT8, 32), Quantization(Format.INT4, 128)]
needs_gxx = pytest.mark.skipif(shutil.which("g++") is None, reason="no g++ to build the emulation with")


@pytest.fixture(scope="module")
def emulated(tmp_path_factory: pytest.TempPathFactory) -> Library:
    """Opened as a device is: `open_device` has already held it against the self-test's digest (engine.md X18)."""
    path = tmp_path_factory.mktemp("cuda") / "emulated.so"
    build(path, emulated=True)
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


@st.composite
def architectures(draw: st.DrawFn) -> Architecture:
    kv_heads = draw(st.integers(1, 3))
    head_width = draw(st.integers(2, 40))
    return Architecture(
        layers=draw(st.integers(1, 2)), width=draw(st.integers(1, 70)), heads=kv_heads * draw(st.integers(1, 3)),
        kv_heads=kv_heads, head_width=head_width, hidden=draw(st.integers(1, 300)),
        vocabulary=draw(st.integers(2, 60)), positions_max=24, epsilon=1e-5,
        rotary_width=2 * draw(st.integers(1, head_width // 2)), tied=draw(st.booleans()),
        attention_bias=draw(st.booleans()), output_bias=draw(st.booleans()), head_norm=draw(st.booleans()),
        window=draw(st.none() | st.integers(1, 12)),
    )


@needs_gxx
@settings(max_examples=20, deadline=None)
@given(architectures(), st.sampled_from(QUANTIZATIONS), st.integers(1, 9))
def test_any_shape(emulated: Library, shape: Architecture, quantization: Quantization, rows: int) -> None:
    """engine.md X2 to X17: rows that fill no block, heads of any width, windows shorter than a pass."""
    host = open_library()
    made = MadeWeights(shape)
    model = made if quantization.format is Format.BF16 else QuantizedWeights(made, quantization, host)
    found = []
    for library in (emulated, host):
        running = Model(model, library, threads=1, rows_max=rows)
        cache = running.cache()
        tokens = [token % shape.vocabulary for token in range(rows)]
        rowed = running.forward(tokens, [cache] * rows, range(rows), range(rows))
        found.append([running.logits(at) for at in rowed])
        (at,) = running.forward([1], [cache], [rows], [0])
        found[-1].append(running.logits(at))
    assert found[0] == found[1]


@pytest.mark.skipif(shutil.which("nvcc") is None, reason="no nvcc here")
def test_the_sources_compile_for_a_gpu(tmp_path: Path) -> None:
    build(tmp_path / "fixed_cuda.so")
    assert (tmp_path / "fixed_cuda.so").stat().st_size > 100_000


@pytest.mark.gpu
@pytest.mark.skipif(shutil.which("nvidia-smi") is None, reason="no GPU here")
def test_a_gpu_gives_the_same_bits(tmp_path: Path) -> None:
    """engine.md X18 and X20, where there is a GPU."""
    build(tmp_path / "fixed_cuda.so")
    device = FixedEngine(weights("llama"), library=open_device(tmp_path / "fixed_cuda.so"))
    assert steps(device, request()) == steps(engine(), request())
