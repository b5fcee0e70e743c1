"""A model's weights in another number format: bf16 as the fixed engine takes it, or int8 and int4 with scales.

    convert(source, target, Quantization(Format.INT8, 64))

Quantizing is weight-only, by the rule of engine.md X8 and with its kernels: the same source gives the same bytes on
every machine. Shards stay shards, and one tensor at a time is in memory.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Final

from anchorhold.bf16 import NotFinite, rounded
from appliance.engine.fixed.architecture import Format, Quantization, Tensor, names
from appliance.engine.fixed.proven import open_library
from appliance.engine.fixed.quantization import quantized
from appliance.models.config import METHOD, describe
from appliance.models.errors import ModelRefused
from appliance.models.folder import ModelFolder, open_folder
from appliance.models.loaded_model import quantization_of, stored
from foundation.document import json_object
from measurements.pack.card import CARD_BYTES_MAX
from measurements.pack.files import WEIGHTS_INDEX
from measurements.pack.pack_reader import TensorView

_DTYPES: Final = ("BF16", "F16", "F32")
_Part = tuple[str, str, tuple[int, ...], memoryview]  # name, type, shape and bytes in a file


def convert(
    source: Path, target: Path, quantization: Quantization, told: Callable[[str], None] = lambda _: None
) -> None:
    """Writes the folder `target`, which must not exist. Raises `ModelRefused` and OSError."""
    with open_folder(source) as folder:
        described = describe(folder.file("config.json"))
        if described.architecture.quantization.format is not Format.BF16:
            raise ModelRefused(
                "convert.source",
                expected="a model that is not quantized",
                got=described.architecture.quantization.format.name,
            )
        wanted = {name: quantization_of(name, shape, quantization) for name, shape in names(described.architecture)}
        target.mkdir()
        homes: dict[str, str] = {}
        for shard, views in folder.shards.items():
            told(shard)
            tensors = _converted(views, {name: wanted[name] for name in views if name in wanted})
            homes |= dict.fromkeys(_write(target / shard, tensors), shard)
        _write_others(folder, target, quantization, homes)


def _converted(views: Mapping[str, TensorView], wanted: Mapping[str, Quantization]) -> Iterator[_Part]:
    for name, quantization in wanted.items():
        tensor = _rounded(name, views[name])
        if quantization.format is not Format.BF16:
            tensor = quantized(tensor, quantization, open_library())
        data = (tensor.data,) if tensor.scales is None else (tensor.data, tensor.scales)
        for (part, dtype, shape), raw in zip(stored(name, tensor.shape, quantization), data, strict=True):
            yield part, dtype, shape, raw


def _rounded(name: str, view: TensorView) -> Tensor:
    """As bf16, to nearest, ties to even; a number that is none has no place in a model."""
    if view.dtype not in _DTYPES:
        raise ModelRefused("convert.type", expected=f"{', '.join(_DTYPES)} in {name[:128]}", got=view.dtype)
    try:
        return Tensor(Format.BF16, view.shape, memoryview(rounded(view.data, view.dtype)))
    except NotFinite:
        raise ModelRefused(
            "convert.number", expected=f"finite numbers of bf16 in {name[:128]}", got="infinity, or not a number"
        ) from None


def _write(path: Path, parts: Iterator[_Part]) -> list[str]:
    """One safetensors file. Tensors wait in a file beside it until the header is known."""
    members: dict[str, object] = {}
    at, waiting = 0, path.with_suffix(".part")
    with waiting.open("xb") as file:
        for name, dtype, shape, raw in parts:
            file.write(raw)
            members[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": [at, at + len(raw)]}
            at += len(raw)
    head = json.dumps(members, separators=(",", ":")).encode()
    head += b" " * (-len(head) % 8)
    with path.open("xb") as file, waiting.open("rb") as source:
        file.write(len(head).to_bytes(8, "little") + head)
        shutil.copyfileobj(source, file, 1 << 20)
    waiting.unlink()
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
            "quant_method": METHOD,
            "format": quantization.format.value,
            "group": quantization.group,
        }
    _write_json(target / "config.json", config)
    if len(set(homes.values())) > 1:
        _write_json(target / WEIGHTS_INDEX, {"metadata": {}, "weight_map": dict(homes)})
    card = target / "card.json"
    if card.exists() and quantization.format is not Format.BF16:
        said = json_object(card.read_bytes(), "card", ModelRefused, bytes_max=CARD_BYTES_MAX, called="card.json")
        _write_json(card, {**said, "quantization": f"{quantization.format.value}-g{quantization.group}"})


def _write_json(path: Path, value: object) -> None:
    path.write_text(json.dumps(value, indent=1, sort_keys=True) + "\n", encoding="utf-8")
