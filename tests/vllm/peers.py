"""Random models of `transformers`, written as the folders that models are published in."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from devnet.model import safetensors_head
from tests.elsewhere import brought

torch, transformers = brought("torch"), brought("transformers")
eager_mask = brought("transformers.masking_utils").eager_mask
eager_attention_forward = brought("transformers.models.llama.modeling_llama").eager_attention_forward
torch.set_num_threads(1)

SIZES: dict[str, Any] = {
    "hidden_size": 96,
    "intermediate_size": 160,
    "num_hidden_layers": 3,
    "num_attention_heads": 6,
    "num_key_value_heads": 2,
    "vocab_size": 320,
    "max_position_embeddings": 256,
    "rms_norm_eps": 1e-5,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
LLAMA3_ROPE = {
    "rope_type": "llama3",
    "rope_theta": 500000.0,
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 64,
}

CASES: dict[str, tuple[str, dict[str, Any]]] = {
    "llama": ("Llama", {}),
    "llama-tied": ("Llama", {"tie_word_embeddings": True}),
    "llama3-scaled": ("Llama", {"rope_parameters": LLAMA3_ROPE}),
    "llama-linear": ("Llama", {"rope_parameters": {"rope_type": "linear", "factor": 4.0, "rope_theta": 10000.0}}),
    "llama-biases": ("Llama", {"attention_bias": True}),
    "llama-wide-heads": ("Llama", {"head_dim": 32, "num_key_value_heads": 6}),
    "qwen2": ("Qwen2", {"use_sliding_window": False}),
    "qwen2-tied-window": (
        "Qwen2",
        {"tie_word_embeddings": True, "use_sliding_window": True, "sliding_window": 9, "max_window_layers": 1},
    ),
    "qwen3": ("Qwen3", {"head_dim": 24}),
    "qwen3-tied-biases": ("Qwen3", {"head_dim": 32, "tie_word_embeddings": True, "attention_bias": True}),
    "mistral": ("Mistral", {"sliding_window": None, "head_dim": 16}),
    "mistral-window": ("Mistral", {"sliding_window": 7}),
}


def peer(name: str) -> Any:
    """The model, in float32, its weights rounded to bf16; biases and norms are no longer zeros and ones."""
    family, changes = CASES[name]
    config, model = (getattr(transformers, f"{family}{what}") for what in ("Config", "ForCausalLM"))
    torch.manual_seed(sum(name.encode()))
    made = model(config(**{**SIZES, **changes}, attn_implementation="eager")).eval()
    with torch.no_grad():
        for key, weight in made.named_parameters():
            plain = key.endswith("bias") or "norm" in key
            # Matrices are made large enough that attention attends.
            other = weight + torch.randn_like(weight) * 0.2 if plain else weight * 6.0
            weight.copy_(other.to(torch.bfloat16))
    return made


def write(made: Any, folder: Path) -> Path:
    folder.mkdir()
    tied = made.config.tie_word_embeddings
    weights = {k: w.to(torch.bfloat16) for k, w in made.state_dict().items() if not (tied and k == "lm_head.weight")}
    head = safetensors_head([(k, "BF16", tuple(w.shape), 2 * w.numel()) for k, w in weights.items()])
    body = b"".join(bytes(w.contiguous().view(torch.uint8).numpy()) for w in weights.values())
    (folder / "model.safetensors").write_bytes(head + body)
    (folder / "config.json").write_text(made.config.to_json_string())
    return folder


def to_bf16(x: torch.Tensor) -> torch.Tensor:
    return x.to(torch.bfloat16).to(torch.float32)


def to_codes(x: torch.Tensor) -> torch.Tensor:
    """engine.md X8: blocks of 32 in int8, as numbers again."""
    width = x.shape[-1]
    blocks = torch.nn.functional.pad(x, (0, -width % 32)).unflatten(-1, (-1, 32))
    top = blocks.abs().amax(-1, keepdim=True)
    return (torch.round(blocks * (127.0 / top)) * (top / 127.0)).flatten(-2)[..., :width]


class NarrowCache(transformers.DynamicCache):
    """Keys and values rounded to bf16, as ours are kept."""

    def update(self, key_states: Any, value_states: Any, *rest: Any, **more: Any) -> Any:
        return super().update(to_bf16(key_states), to_bf16(value_states), *rest, **more)


def _narrow_attention(module: Any, query: torch.Tensor, *rest: Any, **more: Any) -> Any:
    return eager_attention_forward(module, to_bf16(query), *rest, **more)


transformers.AttentionInterface.register("narrow", _narrow_attention)
transformers.AttentionMaskInterface.register("narrow", eager_mask)


@contextmanager
def _rounding(made: Any, entering: Callable[[torch.Tensor], torch.Tensor]) -> Iterator[None]:
    """What enters a matrix is rounded by `entering`, a query to bf16; all else of the peer stays float32."""
    linear = [module for module in made.modules() if isinstance(module, torch.nn.Linear)]
    hooks = [module.register_forward_pre_hook(lambda _, given: (entering(given[0]),)) for module in linear]
    made.set_attn_implementation("narrow")
    try:
        yield
    finally:
        made.set_attn_implementation("eager")
        for hook in hooks:
            hook.remove()


def logits(made: Any, tokens: list[int], entering: Callable[[torch.Tensor], torch.Tensor] = to_bf16) -> torch.Tensor:
    """Of every position."""
    with torch.no_grad(), _rounding(made, entering):
        return made(torch.tensor([tokens]), past_key_values=NarrowCache(config=made.config)).logits[0]


def greedy(made: Any, tokens: list[int], count: int, margin: float) -> list[int]:
    """The next tokens, at most `count`, as long as each leads by more than `margin`."""
    said = list(tokens)
    for _ in range(count):
        best = logits(made, said)[-1].topk(2)
        if float(best.values[0] - best.values[1]) <= margin:
            break
        said.append(int(best.indices[0]))
    return said[len(tokens) :]
