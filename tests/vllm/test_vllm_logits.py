"""The fixed engine's logits beside vLLM's raw ones, on the same weights: text.md L29, for each family."""

from __future__ import annotations

import os
import random
from pathlib import Path
from typing import Any

import pytest

pytestmark = [pytest.mark.vllm, pytest.mark.filterwarnings("ignore")]
pytest.importorskip("vllm", reason="vllm is not installed here: `make vllm` brings it")

TOKENS, SAID = 24, 6
FAMILIES: dict[str, dict[str, Any]] = {
    "Llama": {},
    "Qwen2": {},
    "Qwen3": {"head_dim": 64},
    "Mistral": {"sliding_window": None, "head_dim": 64},
}
SHAPE: dict[str, Any] = {
    "vocab_size": 640,
    "hidden_size": 2048,
    "intermediate_size": 2112,
    "num_hidden_layers": 2,
    "num_attention_heads": 32,
    "num_key_value_heads": 4,
    "max_position_embeddings": 256,
    "tie_word_embeddings": False,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
GREATEST, TYPICAL = 0.08, 0.02  # of the standard deviation of the logits; vLLM rounds every layer's stream to bf16


def write(family: str, folder: Path) -> Path:
    import torch
    import transformers

    torch.manual_seed(len(family))
    config = getattr(transformers, f"{family}Config")(**SHAPE, **FAMILIES[family])
    getattr(transformers, f"{family}ForCausalLM")(config).to(torch.bfloat16).save_pretrained(folder)
    return folder


def theirs(folder: Path, prompt: list[int]) -> tuple[list[int], list[dict[int, float]]]:
    """The tokens vLLM says, and all its logits before each."""
    from appliance.engine.vllm_engine import ENVIRONMENT, SETTINGS

    os.environ.update(ENVIRONMENT)
    from vllm import LLM, SamplingParams

    settings = {name: value for name, value in SETTINGS.items() if name not in {"logits_processors", "logprobs_mode"}}
    settings["max_logprobs"] = -1
    llm = LLM(model=str(folder), max_model_len=128, logprobs_mode="raw_logits", **settings)
    asked = SamplingParams(temperature=0, max_tokens=SAID, logprobs=-1, detokenize=False, ignore_eos=True)
    (answer,) = llm.generate([{"prompt_token_ids": prompt}], asked, use_tqdm=False)
    (said,) = answer.outputs
    llm.llm_engine.engine_core.shutdown()
    return list(said.token_ids), [{token: each.logprob for token, each in row.items()} for row in said.logprobs]


@pytest.mark.parametrize("family", FAMILIES)
def test_the_logits_are_those_of_vllm_within_its_rounding(family: str, tmp_path: Path) -> None:
    import torch

    from appliance.engine.fixed.engine import FixedEngine
    from appliance.models.config import describe
    from appliance.models.folder import open_folder
    from appliance.models.loaded_model import load_model

    folder = write(family, tmp_path / "model")
    source = random.Random(family)
    prompt = [source.randrange(3, 640) for _ in range(TOKENS)]
    said, rows = theirs(folder, prompt)
    with open_folder(folder) as files:
        engine = FixedEngine(load_model(files.tensors(), describe(files.file("config.json"))))
        seen, model = [*prompt, *said[:-1]], engine.model
        places = range(len(seen))
        at = model.forward(seen, [model.cache()] * len(seen), places, places[TOKENS - 1 :])
        ours = torch.stack([torch.frombuffer(bytearray(model.logits(row)), dtype=torch.float32) for row in at])
        other = torch.tensor([[row[token] for token in range(640)] for row in rows])
        apart = (ours - other) / ours.std()
        assert float(apart.abs().max()) < GREATEST
        assert float(apart.pow(2).mean().sqrt()) < TYPICAL
        for mine, token in zip(ours, said, strict=True):
            best = mine.topk(2)
            if float(best.values[0] - best.values[1]) > 2 * GREATEST * float(ours.std()):
                assert int(best.indices[0]) == token
