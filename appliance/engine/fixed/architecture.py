"""What a decoder of the Llama, Qwen2, Qwen3 or Mistral family consists of, and where its tensors are.

No file format is known here: whoever reads `config.json` and safetensors makes these. Nothing is copied; a tensor is
a view of bytes that its owner keeps alive and unchanged for as long as an engine holds the weights.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum, unique
from typing import Final, Protocol

LINE: Final = 64  # elements of bf16 that a product takes at once: a pair for each lane
BLOCK: Final = 32  # elements of a quantized product that are summed as integers
GROUPS: Final = (32, 64, 128)
EMBEDDING: Final = "model.embed_tokens.weight"
FINAL_NORM: Final = "model.norm.weight"
HEAD: Final = "lm_head.weight"


@unique
class Format(Enum):
    """How the numbers of a tensor lie in memory (engine.md X6 and X7)."""

    BF16 = "bf16"
    INT8 = "int8"  # a byte a weight, in pieces of 512 that engine.md X7 lays out; a bf16 scale for each group
    INT4 = "int4"  # four bits a weight, likewise


@dataclass(frozen=True, slots=True)
class Quantization:
    """How the matrices of the layers, and an untied head, are kept. Norms, biases and embedding are bf16."""

    format: Format = Format.BF16
    group: int = 0  # weights of a row that share a scale, one of GROUPS; 0 for bf16


@dataclass(frozen=True, slots=True)
class Architecture:
    """Sizes and switches. `docs/spec/engine.md` X6 to X16 say what each does to the arithmetic."""

    layers: int
    width: int  # of the residual stream (`hidden_size`)
    heads: int
    kv_heads: int
    head_width: int
    hidden: int  # of the gated layer (`intermediate_size`)
    vocabulary: int
    positions_max: int  # rows of the rotary tables, and the longest sequence
    epsilon: float  # of every norm; taken as the nearest float32
    rotary_width: int  # how many leading dimensions of a head turn; even; usually head_width
    tied: bool = False  # the head is the embedding
    attention_bias: bool = False  # on q, k and v (Qwen2)
    output_bias: bool = False  # on the attention's output
    head_norm: bool = False  # on every q and k head before it turns (Qwen3)
    window: int | None = None  # how many positions a token sees, itself included (Mistral)
    window_from: int = 0  # the first layer that has the window
    quantization: Quantization = Quantization()


@dataclass(frozen=True, slots=True)
class Tensor:
    """Bytes in row-major order. `scales` (bf16, one row of ceil(columns / group) for each row) where quantized."""

    format: Format
    shape: tuple[int, ...]  # in weights, not bytes
    data: memoryview
    scales: memoryview | None = None


class Weights(Protocol):
    """A model in memory. Names are those of the safetensors files of these families."""

    @property
    def architecture(self) -> Architecture: ...

    @property
    def rotary(self) -> tuple[memoryview, memoryview]:
        """Cosines and sines as float32, [positions_max, rotary_width / 2] each, computed by the model pack's maker."""
        ...

    def tensor(self, name: str) -> Tensor:
        """Raises KeyError for a name that is not there."""
        ...


def names(architecture: Architecture) -> Iterator[tuple[str, tuple[int, ...]]]:
    """Every tensor that a model of this architecture has, with its shape, in the order of the computation."""
    a = architecture
    q, kv = a.heads * a.head_width, a.kv_heads * a.head_width
    yield EMBEDDING, (a.vocabulary, a.width)
    for index in range(a.layers):
        layer = f"model.layers.{index}."
        yield f"{layer}input_layernorm.weight", (a.width,)
        for name, rows in (("q", q), ("k", kv), ("v", kv)):
            yield f"{layer}self_attn.{name}_proj.weight", (rows, a.width)
            if a.attention_bias:
                yield f"{layer}self_attn.{name}_proj.bias", (rows,)
        if a.head_norm:
            yield f"{layer}self_attn.q_norm.weight", (a.head_width,)
            yield f"{layer}self_attn.k_norm.weight", (a.head_width,)
        yield f"{layer}self_attn.o_proj.weight", (a.width, q)
        if a.output_bias:
            yield f"{layer}self_attn.o_proj.bias", (a.width,)
        yield f"{layer}post_attention_layernorm.weight", (a.width,)
        yield f"{layer}mlp.gate_proj.weight", (a.hidden, a.width)
        yield f"{layer}mlp.up_proj.weight", (a.hidden, a.width)
        yield f"{layer}mlp.down_proj.weight", (a.width, a.hidden)
    yield FINAL_NORM, (a.width,)
    if not a.tied:
        yield HEAD, (a.vocabulary, a.width)
