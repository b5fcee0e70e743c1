"""Every file of the little model. Run by `devnet.little_model`, which pins the process first."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Final

import torch
from torch import Tensor

from devnet.little_model import NAME
from devnet.little_model.lessons import END, TEMPLATE
from devnet.little_model.training import EPSILON, THETA, Shape, make_tokenizer, train
from devnet.model import safetensors_head

STEPS: Final = 420
README: Final = f"""# {NAME}
A Llama of about a million parameters, made by `python -m devnet.little_model` of the Anchorhold project from a few
dozen questions and answers written for it, and licensed as the project is (Apache-2.0).

It gives those answers to those questions and to near relatives of them. To anything else it says that it does not know,
or says something beside the point. It takes no system prompt to heart, calls no tools and speaks English alone.
Use it to see the path work. Use it for nothing else.
"""


def make(out: Path, steps: int = STEPS) -> None:
    """Into the new folder `out`."""
    out.mkdir()
    shape, began = Shape(), time.monotonic()

    def told(step: int, loss: float) -> None:
        if step % 20 == 0 or step == steps - 1:
            print(f"step {step:>4}  loss {loss:.4f}  {time.monotonic() - began:.0f} s", file=sys.stderr, flush=True)

    tokenizer = make_tokenizer(shape)
    end = tokenizer.encode(END, add_special_tokens=False).ids[0]
    weights = train(shape, tokenizer, steps, told)
    (out / "model.safetensors").write_bytes(_safetensors(weights))
    (out / "tokenizer.json").write_text(
        json.dumps(json.loads(tokenizer.to_str()), ensure_ascii=False, separators=(",", ":")) + "\n", encoding="utf-8"
    )
    (out / "chat_template.jinja").write_text(TEMPLATE, encoding="utf-8")
    (out / "README.md").write_text(README, encoding="utf-8")
    _write_json(out / "config.json", _config(shape, end))
    _write_json(out / "generation_config.json", {"eos_token_id": end})
    _write_json(out / "tokenizer_config.json", {"eos_token": END})
    _write_json(
        out / "card.json",
        {
            "name": NAME,
            "family": "llama",
            "license": "Apache-2.0",
            "quantization": "none",
            "sampling": {"temperature_micro": 0},
        },
    )


def _config(shape: Shape, end: int) -> dict[str, object]:
    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "hidden_act": "silu",
        "torch_dtype": "bfloat16",
        "hidden_size": shape.width,
        "num_hidden_layers": shape.layers,
        "num_attention_heads": shape.heads,
        "num_key_value_heads": shape.kv_heads,
        "head_dim": shape.head_width,
        "intermediate_size": shape.hidden,
        "vocab_size": shape.vocabulary,
        "max_position_embeddings": shape.positions,
        "rms_norm_eps": EPSILON,
        "rope_theta": THETA,
        "tie_word_embeddings": True,
        "attention_bias": False,
        "mlp_bias": False,
        "eos_token_id": end,
    }


def _safetensors(weights: dict[str, Tensor]) -> bytes:
    parts = [(name, "BF16", tuple(weight.shape), 2 * weight.numel()) for name, weight in weights.items()]
    return safetensors_head(parts) + b"".join(map(_raw, weights.values()))


def _raw(weight: Tensor) -> bytes:
    raw = bytearray(2 * weight.numel())
    torch.frombuffer(raw, dtype=torch.bfloat16).copy_(weight.reshape(-1))
    return bytes(raw)


def _write_json(path: Path, value: object) -> None:
    path.write_text(json.dumps(value, indent=1, sort_keys=True, ensure_ascii=False) + "\n", encoding="utf-8")


if __name__ == "__main__":
    make(Path(sys.argv[1]))
