"""How much memory a machine needs for a model with the fixed engine: arithmetic over the model's shapes. Pure.

    memory_of(architecture, length_max=8192).mib          # what `image boot --memory` has to be at least

`weights` is what an opened pack holds, `rows` the second copy of bf16 matrices that they are multiplied from
(decision 0015), `cache` keys and values of one request as long as the model can have it. The system's share is an
allowance: the 256 MiB that opening a pack may take beside the model (pack.md P18), and as much for kernel and program.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import prod
from typing import Final

from appliance.engine.fixed.architecture import EMBEDDING, LINE, Architecture, Format, Quantization, names
from appliance.models.loaded_model import quantization_of

MIB: Final = 1 << 20
SYSTEM: Final = 512 * MIB
_BITS: Final = {Format.BF16: 16, Format.INT8: 8, Format.INT4: 4}
_TIGHT_BITS: Final = 12
_SCALE_BITS: Final = 16


@dataclass(frozen=True, slots=True)
class Memory:
    """In bytes."""

    weights: int
    rows: int
    cache: int

    @property
    def mib(self) -> int:
        return -(-(self.weights + self.rows + self.cache + SYSTEM) // MIB)


def memory_of(architecture: Architecture, length_max: int | None = None) -> Memory:
    """`length_max`: of a prompt and its answer; None: all that the model can."""
    a = architecture
    positions = min(length_max or a.positions_max, a.positions_max)
    kept = list(_kept(a))
    return Memory(
        weights=sum(_bytes(size, quantization) for _, size, quantization in kept),
        rows=sum(size for name, size, quantization in kept if _is_tight(a, name, quantization)) * _TIGHT_BITS // 8,
        cache=4 * a.layers * a.kv_heads * -(-a.head_width // LINE) * LINE * positions,
    )


def _kept(architecture: Architecture) -> Iterator[tuple[str, int, Quantization]]:
    """Every tensor with its number of weights, and how they are kept."""
    for name, shape in names(architecture):
        quantization = quantization_of(name, shape, architecture.quantization)
        yield name, prod(shape) if len(shape) == 2 else 0, quantization


def _bytes(size: int, quantization: Quantization) -> int:
    scales = size // quantization.group * _SCALE_BITS if quantization.group else 0
    return (size * _BITS[quantization.format] + scales) // 8


def _is_tight(architecture: Architecture, name: str, quantization: Quantization) -> bool:
    """A bf16 matrix that is multiplied by: an embedding is one only where it is the head as well."""
    return quantization.format is Format.BF16 and (name != EMBEDDING or architecture.tied)
