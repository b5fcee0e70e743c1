"""Invariant: whatever the bytes, config.json describes a decoder within bounds or is refused with ModelRefused."""

from __future__ import annotations

import json

from appliance.engine.fixed.model import check_architecture
from appliance.models import ModelRefused, describe

LLAMA = {
    "model_type": "llama",
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 4,
    "head_dim": 16,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "vocab_size": 300,
    "max_position_embeddings": 512,
    "rms_norm_eps": 1e-5,
    "hidden_act": "silu",
    "rope_theta": 10000.0,
    "rope_scaling": {
        "rope_type": "llama3",
        "factor": 8.0,
        "low_freq_factor": 1.0,
        "high_freq_factor": 4.0,
        "original_max_position_embeddings": 128,
    },
    "quantization_config": {"quant_method": "anchorhold", "format": "int4", "group": 64},
}
QWEN = {
    **LLAMA,
    "model_type": "qwen2",
    "rope_scaling": {"type": "linear", "factor": 2},
    "use_sliding_window": True,
    "sliding_window": 9,
    "max_window_layers": 2,
    "tie_word_embeddings": True,
}
SEEDS: list[bytes] = [json.dumps(LLAMA).encode(), json.dumps(QWEN).encode(), b"{}", b""]


def one_input(data: bytes) -> None:
    try:
        described = describe(data)
    except ModelRefused:
        return
    check_architecture(described.architecture)
    width = described.architecture.rotary_width
    speeds = described.rotation.speeds(width)
    assert len(speeds) == width // 2
    assert all(0.0 < speed <= 1.0 for speed in speeds)
