"""A model folder that the fixed engine runs: drawn weights, a real tokenizer and template, some hundred kilobytes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final

import pytest

from appliance.engine.fixed.architecture import Architecture, names
from appliance.engine.fixed.library import PATH
from appliance.engine.fixed.random_weights import MadeWeights
from devnet.model import safetensors_head
from tests import little_text

needs_kernels: Final = pytest.mark.skipif(not PATH.is_file(), reason="no kernels here: make setup builds them")

ARCHITECTURE: Final = Architecture(
    layers=2,
    width=64,
    heads=4,
    kv_heads=2,
    head_width=16,
    hidden=96,
    vocabulary=400,
    positions_max=256,
    epsilon=1e-5,
    rotary_width=16,
    tied=True,
)


def write_model(folder: Path, *, seed: bytes = b"", **sampling: int) -> Path:
    """Makes `folder`; the same bytes for the same arguments."""
    a = ARCHITECTURE
    folder.mkdir()
    files = little_text.files("chatml")
    config: dict[str, Any] = {
        "model_type": "llama",
        "hidden_act": "silu",
        "hidden_size": a.width,
        "num_hidden_layers": a.layers,
        "num_attention_heads": a.heads,
        "num_key_value_heads": a.kv_heads,
        "head_dim": a.head_width,
        "intermediate_size": a.hidden,
        "vocab_size": a.vocabulary,
        "max_position_embeddings": a.positions_max,
        "rms_norm_eps": a.epsilon,
        "rope_theta": 10000.0,
        "tie_word_embeddings": True,
        "torch_dtype": "bfloat16",
    }
    made = MadeWeights(a, seed)
    tensors = [(name, made.tensor(name)) for name, _ in names(a)]
    head = safetensors_head([(name, "BF16", tensor.shape, len(tensor.data)) for name, tensor in tensors])
    (folder / "model.safetensors").write_bytes(head + b"".join(bytes(tensor.data) for _, tensor in tensors))
    for name, raw in files.items():
        if name != "config.json":
            (folder / name).write_bytes(raw)
        else:
            config |= {key: value for key, value in json.loads(raw).items() if key.endswith("_token_id")}
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    card = {
        "name": "little-engine",
        "family": "llama",
        "license": "Apache-2.0",
        "quantization": "none",
        "sampling": sampling or {"temperature_micro": 700_000, "top_k": 40},
    }
    (folder / "card.json").write_text(json.dumps(card), encoding="utf-8")
    return folder
