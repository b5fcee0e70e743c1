"""text.md L21 to L24: what config.json may say, and the name under which anything else is refused."""

from __future__ import annotations

import json
from typing import Any

import pytest

from appliance.engine.fixed.architecture import Format, Quantization
from appliance.models import ModelRefused, Rotation, describe
from appliance.models.config import Family
from appliance.models.rotary import Llama3

LLAMA: dict[str, Any] = {
    "model_type": "llama",
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "vocab_size": 300,
    "max_position_embeddings": 512,
    "rms_norm_eps": 1e-5,
    "hidden_act": "silu",
}
SCALED = {
    "rope_type": "llama3",
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 128,
}


def said(**changes: Any) -> bytes:
    members = {name: value for name, value in {**LLAMA, **changes}.items() if value is not ...}
    return json.dumps(members).encode()


def test_a_plain_llama() -> None:  # text.md L21
    described = describe(said(torch_dtype="float16", architectures=["X"], use_cache=True))
    a = described.architecture
    assert described.family is Family.LLAMA
    assert (a.layers, a.width, a.heads, a.kv_heads, a.head_width, a.hidden) == (4, 64, 4, 2, 16, 128)
    assert (a.vocabulary, a.positions_max, a.epsilon, a.rotary_width) == (300, 512, 1e-5, 16)
    assert not any((a.tied, a.attention_bias, a.output_bias, a.head_norm, a.window))
    assert described.rotation == Rotation(10000.0)


@pytest.mark.parametrize(
    ("changes", "switches"),
    [  # text.md L22
        ({"model_type": "llama", "attention_bias": True}, (True, True, False)),
        ({"model_type": "qwen2"}, (True, False, False)),
        ({"model_type": "qwen3"}, (False, False, True)),
        ({"model_type": "qwen3", "attention_bias": True}, (True, True, True)),
        ({"model_type": "mistral"}, (False, False, False)),
    ],
)
def test_the_switches_of_a_family(changes: dict[str, Any], switches: tuple[bool, bool, bool]) -> None:
    a = describe(said(**changes)).architecture
    assert (a.attention_bias, a.output_bias, a.head_norm) == switches


@pytest.mark.parametrize(
    ("changes", "window"),
    [
        ({"model_type": "mistral", "sliding_window": 9}, (9, 0)),
        ({"model_type": "mistral", "sliding_window": None}, (None, 0)),
        ({"model_type": "qwen2", "sliding_window": 9, "max_window_layers": 1}, (None, 0)),
        ({"model_type": "qwen2", "sliding_window": 9, "use_sliding_window": True, "max_window_layers": 1}, (9, 1)),
        ({"model_type": "qwen2", "sliding_window": 9, "use_sliding_window": True, "max_window_layers": 4}, (None, 0)),
        (
            {
                "model_type": "qwen3",
                "sliding_window": 9,
                "use_sliding_window": True,
                "max_window_layers": 2,
                "layer_types": ["full_attention"] * 2 + ["sliding_attention"] * 2,
            },
            (9, 2),
        ),
    ],
)
def test_the_window_and_the_layer_it_begins_at(changes: dict[str, Any], window: tuple[int | None, int]) -> None:
    a = describe(said(**changes)).architecture
    assert (a.window, a.window_from) == window


@pytest.mark.parametrize(
    ("changes", "rotation"),
    [  # text.md L23
        ({"rope_theta": 500000.0}, Rotation(500000.0)),
        ({"rope_theta": 1000000}, Rotation(1e6)),
        ({"rope_parameters": {"rope_type": "default", "rope_theta": 5.0}}, Rotation(5.0)),
        ({"rope_scaling": {"type": "linear", "factor": 2.0}}, Rotation(10000.0, divisor=2.0)),
        ({"rope_scaling": SCALED, "rope_theta": 5e5}, Rotation(5e5, llama3=Llama3(8.0, 1.0, 4.0, 128))),
        ({"rope_scaling": None}, Rotation(10000.0)),
    ],
)
def test_how_heads_turn(changes: dict[str, Any], rotation: Rotation) -> None:
    assert describe(said(**changes)).rotation == rotation


def test_our_own_quantization() -> None:  # text.md L24
    described = describe(said(quantization_config={"quant_method": "anchorhold", "format": "int4", "group": 64}))
    assert described.architecture.quantization == Quantization(Format.INT4, 64)


@pytest.mark.parametrize(
    ("changes", "code"),
    [  # text.md L21 to L24
        ({"qk_layernorm": True}, "config.key"),
        ({"partial_rotary_factor": 0.5}, "config.key"),
        ({"num_experts": 8}, "config.key"),
        ({"model_type": "gemma"}, "config.model_type"),
        ({"model_type": ...}, "config.model_type"),
        ({"model_type": ["llama"]}, "config.model_type"),
        ({"hidden_act": "gelu"}, "config.hidden_act"),
        ({"mlp_bias": True}, "config.mlp_bias"),
        ({"mlp_bias": 0}, "config.mlp_bias"),
        ({"pretraining_tp": 2}, "config.pretraining_tp"),
        ({"use_mrope": True}, "config.use_mrope"),
        ({"hidden_size": ...}, "config.hidden_size"),
        ({"hidden_size": 64.0}, "config.hidden_size"),
        ({"hidden_size": 1 << 40}, "config.hidden_size"),
        ({"num_hidden_layers": 0}, "config.num_hidden_layers"),
        ({"num_hidden_layers": True}, "config.num_hidden_layers"),
        ({"num_key_value_heads": 3}, "config.num_key_value_heads"),
        ({"model_type": "mistral", "num_key_value_heads": ...}, "config.num_key_value_heads"),
        ({"head_dim": 15}, "config.head_dim"),
        ({"rms_norm_eps": 0.5}, "config.rms_norm_eps"),
        ({"rms_norm_eps": "1e-5"}, "config.rms_norm_eps"),
        ({"tie_word_embeddings": 1}, "config.tie_word_embeddings"),
        ({"rope_theta": 0.5}, "config.rope_theta"),
        ({"rope_scaling": {"type": "dynamic", "factor": 2.0}}, "config.rope_scaling.rope_type"),
        ({"rope_scaling": {"rope_type": "yarn", "factor": 2.0}}, "config.rope_scaling.rope_type"),
        ({"rope_scaling": {"rope_type": "linear", "type": "dynamic", "factor": 2.0}}, "config.rope_scaling.type"),
        ({"rope_scaling": {"type": "linear", "factor": 0.5}}, "config.rope_scaling.factor"),
        ({"rope_scaling": {"type": "linear"}}, "config.rope_scaling"),
        ({"rope_scaling": {"type": "linear", "factor": 2.0, "beta_fast": 1}}, "config.rope_scaling"),
        ({"rope_scaling": {**SCALED, "high_freq_factor": 1.0}}, "config.rope_scaling.high_freq_factor"),
        (
            {"rope_scaling": {**SCALED, "original_max_position_embeddings": 1.5}},
            "config.rope_scaling.original_max_position_embeddings",
        ),
        ({"rope_scaling": "linear"}, "config.rope_scaling"),
        ({"sliding_window": 9}, "config.sliding_window"),
        ({"model_type": "mistral", "sliding_window": -1}, "config.sliding_window"),
        ({"model_type": "qwen2", "use_sliding_window": True, "sliding_window": 9}, "config.max_window_layers"),
        ({"model_type": "qwen2", "layer_types": ["sliding_attention"] * 4}, "config.layer_types"),
        ({"quantization_config": {"quant_method": "awq"}}, "config.quantization_config"),
        (
            {"quantization_config": {"quant_method": "anchorhold", "format": "int8", "group": 48}},
            "config.quantization_config",
        ),
        (
            {"quantization_config": {"quant_method": "anchorhold", "format": "int8", "group": 64, "zero": 1}},
            "config.quantization_config",
        ),
    ],
)
def test_what_is_not_computed_is_refused_by_name(changes: dict[str, Any], code: str) -> None:
    with pytest.raises(ModelRefused) as refused:
        describe(said(**changes))
    assert refused.value.code == code


@pytest.mark.parametrize(
    "raw", [b"", b"[]", b"{", b'{"a": 1, "a": 2}', b'{"rms_norm_eps": NaN}', b"\xff", b" " * (2 << 20)]
)
def test_what_is_no_json_object_is_refused(raw: bytes) -> None:
    with pytest.raises(ModelRefused, match=r"config\.json"):
        describe(raw)


def test_a_profile_may_serve_fewer_positions() -> None:
    described = describe(said())
    assert described.limited(100).architecture.positions_max == 100
    for beyond in (0, 513):
        with pytest.raises(ModelRefused, match="positions"):
            described.limited(beyond)
