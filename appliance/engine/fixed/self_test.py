"""The self-test: small models that use every path of the kernels, and the digest of their results (engine.md X18).

The digest was computed by the plain reference (tests/fixed_reference.py) and agrees with every variant. A library built
wrong, or a processor that computes wrong, is refused before it serves.
"""

from __future__ import annotations

from collections.abc import Iterator
from hashlib import sha256
from typing import Final

from appliance.engine.errors import EngineRefused
from appliance.engine.fixed.architecture import Architecture, Format, Quantization
from appliance.engine.fixed.library import Library
from appliance.engine.fixed.model import Model
from appliance.engine.fixed.quantization import QuantizedWeights
from appliance.engine.fixed.random_weights import MadeWeights

DIGEST: Final = "d783d5edec1e671dfc066d6fa7958f028f6ec05c56ed6adf8a20300a0bc00184"

# Odd sizes, three query heads to a key, biases, head norms, a tail in every product; long rows; many positions.
ODD: Final = Architecture(
    layers=2,
    width=72,
    heads=6,
    kv_heads=2,
    head_width=20,
    hidden=104,
    vocabulary=67,
    positions_max=8,
    epsilon=1e-5,
    rotary_width=12,
    attention_bias=True,
    output_bias=True,
    head_norm=True,
)
DEEP: Final = Architecture(
    layers=1,
    width=32,
    heads=2,
    kv_heads=1,
    head_width=64,
    hidden=2112,
    vocabulary=48,
    positions_max=8,
    epsilon=1e-6,
    rotary_width=64,
    tied=True,
)
LONG: Final = Architecture(
    layers=2,
    width=20,
    heads=1,
    kv_heads=1,
    head_width=20,
    hidden=20,
    vocabulary=40,
    positions_max=140,
    epsilon=1e-5,
    rotary_width=20,
    window=50,
    window_from=1,
)
CASES: Final = (
    (LONG, Quantization(), 139),
    (ODD, Quantization(), 5),
    (ODD, Quantization(Format.INT8, 32), 2),
    (ODD, Quantization(Format.INT4, 64), 2),
    (DEEP, Quantization(), 5),
    (DEEP, Quantization(Format.INT8, 128), 2),
    (DEEP, Quantization(Format.INT4, 32), 2),
)


def tokens_of(architecture: Architecture, count: int) -> list[int]:
    return [(7 * i * i + 3 * i + 1) % architecture.vocabulary for i in range(count)]


def logits(library: Library, *, tight: bool) -> Iterator[bytes]:
    """The last four rows of each case, as bytes: three in one pass with all before them, one alone."""
    for architecture, quantization, count in CASES:
        made = MadeWeights(architecture)
        weights = made if quantization.format is Format.BF16 else QuantizedWeights(made, quantization, library)
        model = Model(weights, library, threads=1, rows_max=count, tight=tight)
        tokens, cache = tokens_of(architecture, count), model.cache()
        before = count - 1
        asked = range(max(0, before - 3), before)
        for at in model.forward(tokens[:before], [cache] * before, range(before), asked):
            yield model.logits(at)
        (at,) = model.forward(tokens[before:], [cache], [before], [0])
        yield model.logits(at)


def digest(library: Library, *, tight: bool = True) -> str:
    found = sha256()
    for row in logits(library, tight=tight):
        found.update(row)
    return found.hexdigest()


def check(library: Library) -> None:
    """Raises `EngineRefused`: the library must then not be used."""
    for tight in (True, False) if library.tightens else (False,):
        if (got := digest(library, tight=tight)) != DIGEST:
            raise EngineRefused(
                "engine.self-test",
                expected=DIGEST,
                got=got,
                hint="built with reordering or contraction allowed, or the processor computes wrong",
            )
