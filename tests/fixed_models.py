"""Small models for the tests of the fixed engine: every family, and one whose rows are longer than 2048."""

from __future__ import annotations

import ctypes
from functools import cache

from appliance.engine.fixed.architecture import Architecture, Format, Quantization, Weights
from appliance.engine.fixed.engine import FixedEngine
from appliance.engine.fixed.library import CMatrix, Library, Variant, declared
from appliance.engine.fixed.proven import open_library
from appliance.engine.fixed.quantization import QuantizedWeights
from appliance.engine.fixed.random_weights import MadeWeights
from appliance.engine.protocol import EngineRequest, Sampling, Step

LLAMA = Architecture(
    layers=2,
    width=64,
    heads=4,
    kv_heads=2,
    head_width=16,
    hidden=2112,
    vocabulary=300,
    positions_max=160,
    epsilon=1e-5,
    rotary_width=16,
)
QWEN2 = Architecture(
    layers=2,
    width=48,
    heads=6,
    kv_heads=1,
    head_width=24,
    hidden=72,
    vocabulary=90,
    positions_max=64,
    epsilon=1e-6,
    rotary_width=24,
    attention_bias=True,
    tied=True,
)
QWEN3 = Architecture(
    layers=2,
    width=40,
    heads=2,
    kv_heads=2,
    head_width=32,
    hidden=70,
    vocabulary=75,
    positions_max=64,
    epsilon=1e-6,
    rotary_width=32,
    head_norm=True,
    tied=True,
)
MISTRAL = Architecture(
    layers=3,
    width=66,
    heads=10,
    kv_heads=1,
    head_width=34,
    hidden=96,
    vocabulary=111,
    positions_max=200,
    epsilon=1e-5,
    rotary_width=34,
    window=37,
)
FAMILIES = {"llama": LLAMA, "qwen2": QWEN2, "qwen3": QWEN3, "mistral": MISTRAL}
BITS = {"bf16": Quantization(), "int8": Quantization(Format.INT8, 64), "int4": Quantization(Format.INT4, 32)}


def variants() -> list[Variant]:
    return [variant for variant in Variant if declared().fixed_has(variant.value)]


@cache
def weights(family: str, bits: str = "bf16") -> Weights:
    made = MadeWeights(FAMILIES[family])
    return made if bits == "bf16" else QuantizedWeights(made, BITS[bits], open_library())


def engine(family: str = "llama", bits: str = "bf16", variant: Variant | None = None, **settings: int) -> FixedEngine:
    library: Library = open_library(variant)
    return FixedEngine(weights(family, bits), library=library, **settings)


def multiplied(
    kernels: ctypes.CDLL, variant: Variant, matrix: CMatrix, x: list[list[float]], threads: int = 1
) -> bytes:
    """One product by itself: float32, row of x by row of x."""
    given_x = (ctypes.c_float * (len(x) * matrix.columns))(*(number for row in x for number in row))
    y = (ctypes.c_float * (len(x) * matrix.rows))()
    pool = kernels.fixed_pool_new(threads)
    assert kernels.fixed_product(variant.value, pool, ctypes.byref(matrix), given_x, len(x), y) == 0
    kernels.fixed_pool_free(pool)
    return bytes(y)


def prompt(length: int, *, vocabulary: int = 75, start: int = 0) -> tuple[int, ...]:
    """Tokens that go in circles, so that there is something to guess from."""
    return tuple((5 * i * i + 3 * i + start) % min(vocabulary, 17 + start % 7) for i in range(length))


def request(
    length: int = 30, tokens: int = 24, temperature: float = 0.0, start: int = 0, scope: bytes = b""
) -> EngineRequest:
    return EngineRequest(
        prompt=prompt(length, start=start),
        max_tokens=tokens,
        seed=bytes([start]) * 32,
        sampling=Sampling(temperature_micro=int(temperature * 1_000_000)),
        scope=scope,
    )


def steps(engine: FixedEngine, asked: EngineRequest) -> list[Step]:
    return list(engine.run(asked))
