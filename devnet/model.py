"""A tiny model folder, the same for the same seed: something to seal, open and hold in tests and demonstrations.

The weights are random numbers in valid safetensors, the tokenizer is bytes, the template is three lines. Nothing
here can say anything worth reading.
"""

from __future__ import annotations

import json
import random
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

TEMPLATE: Final = (
    "{% for message in messages %}<|{{ message.role }}|>{{ message.content }}\n{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
_PIECE_BYTES: Final = 1 << 20


@dataclass(frozen=True, slots=True)
class TinyModel:
    """The shape of the model, and what its card says."""

    name: str = "tiny-bytes-1"
    layers: int = 2
    width: int = 32
    shards: int = 1
    seed: int = 1

    def tensors(self) -> list[tuple[str, tuple[int, ...]]]:
        layers = [
            (f"model.layers.{layer}.{part}.weight", (self.width, self.width))
            for layer in range(self.layers)
            for part in ("attention", "mlp")
        ]
        return [("model.embed.weight", (256, self.width)), *layers, ("model.norm.weight", (self.width,))]

    def write(self, folder: Path) -> None:
        """Makes `folder` with every file a pack needs; it must not exist."""
        folder.mkdir()
        chance = random.Random(self.seed)  # noqa: S311  # the same weights for the same seed; nothing secret
        tensors = self.tensors()
        homes: dict[str, str] = {}
        for number in range(self.shards):
            name = self._shard_name(number)
            mine = tensors[number :: self.shards]
            homes |= {tensor: name for tensor, _ in mine}
            _write_weights(folder / name, mine, chance)
        if self.shards > 1:
            _write_json(folder / "model.safetensors.index.json", {"metadata": {}, "weight_map": homes})
        _write_json(folder / "config.json", self._config())
        vocabulary = {f"<{byte:02x}>": byte for byte in range(256)}
        _write_json(folder / "tokenizer.json", {"model": {"type": "bytes", "vocab": vocabulary}})
        (folder / "chat_template.jinja").write_text(TEMPLATE, encoding="utf-8")
        _write_json(folder / "card.json", self._card())

    def _shard_name(self, number: int) -> str:
        return "model.safetensors" if self.shards == 1 else f"model-{number + 1:05d}-of-{self.shards:05d}.safetensors"

    def _config(self) -> Mapping[str, object]:
        return {
            "model_type": "tiny",
            "hidden_size": self.width,
            "num_hidden_layers": self.layers,
            "vocab_size": 256,
            "torch_dtype": "bfloat16",
        }

    def _card(self) -> Mapping[str, object]:
        return {
            "name": self.name,
            "family": "tiny",
            "license": "Apache-2.0",
            "quantization": "none",
            "sampling": {"temperature_micro": 700_000, "top_p_micro": 950_000, "top_k": 40},
        }


def safetensors_head(tensors: list[tuple[str, str, tuple[int, ...], int]]) -> bytes:
    """Length and header for tensors given as (name, dtype, shape, bytes), in that order."""
    members, at = {}, 0
    for name, dtype, shape, size in tensors:
        members[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": [at, at + size]}
        at += size
    text = json.dumps(members, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text


def _write_weights(path: Path, tensors: list[tuple[str, tuple[int, ...]]], chance: random.Random) -> None:
    sizes = [2 * _product(shape) for _, shape in tensors]
    named = [(name, "BF16", shape, size) for (name, shape), size in zip(tensors, sizes, strict=True)]
    with path.open("wb") as file:
        file.write(safetensors_head(named))
        left = sum(sizes)
        while left:
            piece = min(left, _PIECE_BYTES)
            file.write(chance.randbytes(piece))
            left -= piece


def _product(shape: tuple[int, ...]) -> int:
    product = 1
    for size in shape:
        product *= size
    return product


def _write_json(path: Path, value: Mapping[str, object]) -> None:
    path.write_text(json.dumps(value, indent=1, sort_keys=True) + "\n", encoding="utf-8")
