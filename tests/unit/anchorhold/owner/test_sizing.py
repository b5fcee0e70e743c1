"""The memory that a machine is said to need is what the engine takes; the page's table is computed, not typed."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from anchorhold.owner.sizing import SYSTEM, memory_of
from appliance.engine.fixed.architecture import Architecture, Format, Quantization, names
from appliance.engine.fixed.model import Model
from appliance.engine.fixed.proven import open_library
from appliance.models import describe, load_model
from appliance.models.folder import open_folder
from bench.engine import SIZES
from devnet import little_model
from tests.little_engine import needs_kernels

PAGE = Path(__file__).resolve().parents[4] / "docs" / "for-model-owners.md"
GIB = 1 << 30
POSITIONS = 8192
FORMATS = {"bf16": Quantization(), "int8": Quantization(Format.INT8, 64), "int4": Quantization(Format.INT4, 64)}


def shape(layers: int, width: int, heads: int, hidden: int, vocabulary: int) -> Architecture:
    return Architecture(
        layers=layers,
        width=width,
        heads=heads,
        kv_heads=8,
        head_width=128,
        hidden=hidden,
        vocabulary=vocabulary,
        positions_max=131_072,
        epsilon=1e-5,
        rotary_width=128,
    )


MODELS = {
    "160M": replace(SIZES["160M"], positions_max=POSITIONS),
    "1.1B": replace(SIZES["1.1B"], positions_max=POSITIONS),
    "8B": shape(32, 4096, 32, 14336, 128_256),
    "14B": shape(48, 5120, 40, 13824, 152_064),
    "32B": shape(64, 5120, 40, 27648, 152_064),
    "70B": shape(80, 8192, 64, 28672, 128_256),
}
# Of one core, bytes of weights a second at 1.1B, and tokens of a prompt a second there: docs/benchmarks/engine.md.
READ, PREFILL = {"bf16": 47.9e9, "int8": 35.2e9, "int4": 32.8e9}, {"bf16": 188.7, "int8": 232.6, "int4": 250.2}
BYTES = {"bf16": 2.0, "int8": 1 + 2 / 64, "int4": 1 / 2 + 2 / 64}


def rows() -> list[list[str]]:
    cells = [line.strip("| ").split(" | ") for line in PAGE.read_text("utf-8").splitlines() if line.startswith("| ")]
    return [[each[0].split()[0], *each[1:]] for each in cells if each[1] in FORMATS]


def multiplied(architecture: Architecture) -> int:
    return sum(size[0] * size[1] for name, size in names(architecture) if len(size) == 2 and "embed" not in name)


def short(value: float) -> str:
    return f"{value:.0f}" if value >= 10 else f"{value:.1f}"


def test_the_table_has_rows() -> None:
    assert len(rows()) == 11


@pytest.mark.parametrize("row", rows(), ids=lambda row: f"{row[0]}-{row[1]}")
def test_the_table_of_the_page_is_computed(row: list[str]) -> None:
    model, form, memory, read, wrote, kind = row
    of = replace(MODELS[model], quantization=FORMATS[form])
    assert memory == f"{memory_of(of, POSITIONS).mib / 1024:.1f}"
    if kind == "speed measured":
        assert form in PREFILL
        return
    assert kind == "computed"
    weights = multiplied(of)
    assert read == short(PREFILL[form] * multiplied(MODELS["1.1B"]) / weights)
    assert wrote == short(READ[form] / (weights * BYTES[form]))


@needs_kernels
def test_what_the_engine_takes_is_what_was_computed() -> None:
    with open_folder(little_model.folder()) as folder:
        described = describe(folder.file("config.json"))
        loaded = load_model(folder.tensors(), described)
        model = Model(loaded, open_library(), threads=1)
        stated = memory_of(described.architecture)
        assert model.cache_bytes(described.architecture.positions_max) == stated.cache
        data = sum(len(loaded.tensor(name).data) for name, size in names(described.architecture) if len(size) == 2)
        assert data == stated.weights
        del model, loaded


@pytest.mark.parametrize("form", FORMATS)
def test_a_shorter_memory_takes_less_and_nothing_else_changes(form: str) -> None:
    of = replace(MODELS["8B"], quantization=FORMATS[form])
    long, short = memory_of(of), memory_of(of, 4096)
    assert long.cache == 32 * short.cache
    assert (long.weights, long.rows) == (short.weights, short.rows)
    assert bool(short.rows) == (form == "bf16")
    assert short.mib * (1 << 20) >= short.weights + short.rows + short.cache + SYSTEM
