"""bf16 weights to int8 or int4, by the rule of engine.md X8: the same bytes from the same model everywhere."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from appliance.engine.fixed.architecture import Architecture, Format, Quantization, Tensor, Weights, names
from appliance.engine.fixed.library import Library
from appliance.engine.fixed.memory import Held, HugeMemory
from appliance.engine.fixed.model import row_bytes

_CODES: Final = {Format.INT8: 1, Format.INT4: 2}


class QuantizedWeights:
    """Another model's weights, its matrices quantized into memory of our own when this is made."""

    def __init__(self, weights: Weights, quantization: Quantization, library: Library) -> None:
        if weights.architecture.quantization.format is not Format.BF16:
            raise ValueError("weights are quantized once, from bf16")
        self._weights: Final = weights
        self._architecture: Final = replace(weights.architecture, quantization=quantization)
        self._made: Final = {
            name: quantized(weights.tensor(name), quantization, library)
            for name, shape in names(weights.architecture)
            if len(shape) == 2 and not name.startswith("model.embed_tokens")
        }

    @property
    def architecture(self) -> Architecture:
        return self._architecture

    @property
    def rotary(self) -> tuple[memoryview, memoryview]:
        return self._weights.rotary

    def tensor(self, name: str) -> Tensor:
        return self._made.get(name) or self._weights.tensor(name)


def quantized(tensor: Tensor, quantization: Quantization, library: Library) -> Tensor:
    rows, columns = tensor.shape
    size = rows * row_bytes(quantization.format, columns)
    scales = 2 * rows * -(-columns // quantization.group)
    source, made = Held(tensor.data), HugeMemory(library.kernels, size + scales)
    library.kernels.fixed_quantize(
        source.address,
        rows,
        columns,
        _CODES[quantization.format],
        quantization.group,
        made.address,
        made.address + size,
    )
    both = made.view.toreadonly()
    return Tensor(quantization.format, tensor.shape, both[:size], both[size:])
