"""A model's weights in another number format: bf16 as the fixed engine takes it, or int8 and int4 with scales.

    convert(source, target, Quantization(Format.INT8, 64))

Quantizing is weight-only and symmetric, group by group of a row (engine.md X7, X8): the scale of int8 is the greatest
magnitude over 127, that of int4 the weight of greatest magnitude over -8; scales are rounded to bf16 first, and codes
are the nearest integers to weight/scale, halves to even. Elementwise float32 throughout, so the same source gives the
same bytes on every machine.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Final

import torch
from torch import Tensor

from appliance.engine.fixed.architecture import Format, Quantization, names
from appliance.models.config import METHOD, describe
from appliance.models.errors import ModelRefused
from appliance.models.folder import ModelFolder, open_folder
from appliance.models.loading import SCALES, quantization_of
from measurements.pack.files import WEIGHTS_INDEX
from measurements.pack.opening import TensorView

_DTYPES: Final = {"BF16": torch.bfloat16, "F16": torch.float16, "F32": torch.float32}
_NAMES: Final = {torch.bfloat16: "BF16", torch.int8: "I8", torch.uint8: "U8"}


def convert(
    source: Path, target: Path, quantization: Quantization, told: Callable[[str], None] = lambda _: None
) -> None:
    """Writes the folder `target`, which must not exist. Raises `ModelRefused` and OSError."""
    with open_folder(source) as folder:
        described = describe(folder.file("config.json"))
        if described.architecture.quantization.format is not Format.BF16:
            raise ModelRefused("convert.source", expected="a model that is not quantized", got="a quantized one")
        wanted = {
            name: quantization_of(name, shape, quantization) for name, shape in names(described.architecture)
        }
        target.mkdir()
        homes: dict[str, str] = {}
        for shard, views in folder.shards.items():
            told(shard)
            tensors = _converted(views, {name: wanted[name] for name in views if name in wanted})
            homes |= dict.fromkeys(_write(target / shard, tensors), shard)
        _write_others(folder, target, quantization, homes)


def quantized(weights: Tensor, quantization: Quantization) -> tuple[Tensor, Tensor]:
    """Codes as they are stored, and scales."""
    rows, columns = weights.shape
    group = quantization.group
    padded = torch.nn.functional.pad(weights.to(torch.float32), (0, -columns % group))
    groups = padded.reshape(rows, -1, group)
    greatest = groups.gather(2, groups.abs().argmax(2, keepdim=True))
    least, most, divisor = (-127, 127, 127.0) if quantization.format is Format.INT8 else (-8, 7, -8.0)
    reach = greatest.abs() if quantization.format is Format.INT8 else greatest
    scales = (reach / divisor).to(torch.bfloat16)
    divisors = scales.to(torch.float32)
    # A group of zeros, or of numbers so small that the scale is zero, has codes of zero.
    codes = torch.where(divisors == 0, 0.0, groups / torch.where(divisors == 0, 1.0, divisors))
    whole = torch.round(codes).clamp(least, most).reshape(rows, -1)[:, :columns].to(torch.int8)
    scales = torch.where(scales == 0, torch.zeros_like(scales), scales).reshape(rows, -1)
    if quantization.format is Format.INT8:
        return whole.contiguous(), scales
    if columns % 2:
        raise ModelRefused("convert.columns", expected="an even number of columns", got=columns)
    halves = (whole + 8).to(torch.uint8)
    return (halves[:, 0::2] | (halves[:, 1::2] << 4)).contiguous(), scales


def _converted(
    views: Mapping[str, TensorView], wanted: Mapping[str, Quantization]
) -> Iterator[tuple[str, Tensor]]:
    for name, quantization in wanted.items():
        view = views[name]
        if view.dtype not in _DTYPES:
            raise ModelRefused("convert.type", expected=f"{', '.join(_DTYPES)} in {name}", got=view.dtype)
        weights = torch.frombuffer(bytearray(view.data), dtype=_DTYPES[view.dtype]).reshape(view.shape)
        if not bool(torch.isfinite(weights).all()):
            raise ModelRefused("convert.number", expected=f"finite numbers in {name}", got="another")
        if quantization.format is Format.BF16:
            yield name, weights.to(torch.bfloat16)
        else:
            codes, scales = quantized(weights, quantization)
            yield name, codes
            yield name + SCALES, scales


def _write(path: Path, tensors: Iterator[tuple[str, Tensor]]) -> list[str]:
    """One safetensors file. Tensors wait in a file beside it until the header is known."""
    members: dict[str, object] = {}
    at, data = 0, path.with_suffix(".part")
    with data.open("xb") as file:
        for name, tensor in tensors:
            raw = bytes(tensor.contiguous().reshape(-1).view(torch.uint8).untyped_storage())
            file.write(raw)
            members[name] = {
                "dtype": _NAMES[tensor.dtype], "shape": list(tensor.shape), "data_offsets": [at, at + len(raw)]
            }
            at += len(raw)
    head = json.dumps(members, separators=(",", ":")).encode()
    head += b" " * (-len(head) % 8)
    with path.open("xb") as file, data.open("rb") as source:
        file.write(len(head).to_bytes(8, "little") + head)
        shutil.copyfileobj(source, file, 1 << 20)
    data.unlink()
    return list(members)


def _write_others(folder: ModelFolder, target: Path, quantization: Quantization, homes: Mapping[str, str]) -> None:
    for name in (*folder.names, "card.json"):
        if name in {"config.json", WEIGHTS_INDEX} or not (folder.path / name).exists():
            continue
        (target / name).write_bytes(folder.file(name))
    config = json.loads(folder.file("config.json"))
    config["torch_dtype"] = "bfloat16"
    config.pop("dtype", None)
    if quantization.format is not Format.BF16:
        config["quantization_config"] = {
            "quant_method": METHOD, "format": quantization.format.value, "group": quantization.group
        }
    _write_json(target / "config.json", config)
    if len(set(homes.values())) > 1:
        _write_json(target / WEIGHTS_INDEX, {"metadata": {}, "weight_map": dict(homes)})
    card = target / "card.json"
    if card.exists() and quantization.format is not Format.BF16:
        said = json.loads(card.read_bytes())
        _write_json(card, {**said, "quantization": f"{quantization.format.value}-g{quantization.group}"})


def _write_json(path: Path, value: object) -> None:
    path.write_text(json.dumps(value, indent=1, sort_keys=True) + "\n", encoding="utf-8")
