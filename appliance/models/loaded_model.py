"""A model's tensors by their roles: all of them there, of the right type and shape, and no others.

    load_model(pack.tensors(), describe(pack.file("config.json")))      the views of an opened pack, nothing copied

The result satisfies `appliance.engine.fixed.architecture.Weights`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Final

from appliance.engine.fixed.architecture import EMBEDDING, HEAD, Architecture, Format, Quantization, Tensor, names
from appliance.engine.fixed.model import row_bytes
from appliance.models.config import Described
from appliance.models.errors import ModelRefused
from appliance.models.rotary import Rotation, tables_digest
from measurements.pack.pack_reader import TensorView

SCALES: Final = ".scales"
_LEFTOVER: Final = re.compile(r"model\.layers\.\d+\.self_attn\.rotary_emb\.inv_freq")  # old files keep these


@dataclass(frozen=True)
class LoadedModel:
    """A model in memory, ready for an engine."""

    architecture: Architecture
    rotation: Rotation
    _tensors: Mapping[str, Tensor] = field(repr=False)

    @cached_property
    def rotary(self) -> tuple[memoryview, memoryview]:
        architecture = self.architecture
        return self.rotation.tables(positions=architecture.positions_max, width=architecture.rotary_width)

    @property
    def rotary_digest(self) -> bytes:
        return tables_digest(self.rotary)

    def tensor(self, name: str) -> Tensor:
        return self._tensors[name]


def load_model(views: Mapping[str, TensorView], described: Described) -> LoadedModel:
    """Raises `ModelRefused` alone, naming the first tensor that is not as it has to be."""
    architecture = described.architecture
    left = {name for name in views if not _LEFTOVER.fullmatch(name)}
    tensors = {}
    for name, shape in names(architecture):
        tensors[name] = _tensor(views, name, shape, quantization_of(name, shape, architecture.quantization))
        left -= {name, name + SCALES} if tensors[name].scales is not None else {name}
    if left:
        hint = "the head is the embedding here; leave lm_head.weight out" if HEAD in left else None
        raise ModelRefused(
            "tensor.unknown",
            expected="the tensors of this architecture alone",
            got=", ".join(sorted(left))[:200],
            hint=hint,
        )
    return LoadedModel(architecture, described.rotation, tensors)


def quantization_of(name: str, shape: tuple[int, ...], quantization: Quantization) -> Quantization:
    """Matrices of the layers and the head may be quantized; embedding, norms and biases never are."""
    return quantization if len(shape) == 2 and name != EMBEDDING else Quantization()


def stored(name: str, shape: tuple[int, ...], quantization: Quantization) -> Iterator[tuple[str, str, tuple[int, ...]]]:
    """The tensors of a file that one of the model's is kept in: name, type, shape."""
    rows, columns = shape[0], shape[-1]
    match quantization.format:
        case Format.BF16:
            yield name, "BF16", shape
            return
        case Format.INT8 | Format.INT4 as form:
            yield name, "U8", (rows, row_bytes(form, columns))
    yield name + SCALES, "BF16", (rows, -(-columns // quantization.group))


def _tensor(views: Mapping[str, TensorView], name: str, shape: tuple[int, ...], quantization: Quantization) -> Tensor:
    data = []
    for part, dtype, wanted in stored(name, shape, quantization):
        view = views.get(part)
        if view is None:
            raise ModelRefused("tensor.missing", expected=part, got="none")
        if view.dtype != dtype:
            raise ModelRefused(
                "tensor.type",
                expected=f"{dtype} in {part}",
                got=view.dtype,
                hint="`anchorhold model convert` writes the types this engine computes with",
            )
        if view.shape != wanted:
            raise ModelRefused("tensor.shape", expected=f"{list(wanted)} in {part}", got=list(view.shape))
        data.append(view.data)
    return Tensor(quantization.format, shape, data[0], data[1] if len(data) > 1 else None)
