"""One engine of others, timed in a process of its own: `python _peer.py KIND MODEL THREADS PROMPT TOKENS ROUNDS TEMP`.

Run by the interpreter that has the peers; imports nothing of ours. Prints one JSON object: the best seconds of a
prefill and of one decoded token. Greedy peers at TEMP 0; their own sampler above.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable

KIND, MODEL = sys.argv[1], sys.argv[2]
THREADS, PROMPT, TOKENS, ROUNDS = (int(text) for text in sys.argv[3:7])
TEMPERATURE = float(sys.argv[7])
PROMPT_IDS = [(7 * place * place + 3 * place + 5) % 4000 + 3 for place in range(PROMPT)]


def timed(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def generating(one: Callable[[], object], many: Callable[[], object]) -> tuple[float, float]:
    """A prefill ends with its first token; the rest of `many` is decoding."""
    one()
    prefill = min(timed(one) for _ in range(ROUNDS))
    whole = min(timed(many) for _ in range(ROUNDS))
    return prefill, (whole - prefill) / (TOKENS - 1)


def transformers() -> tuple[float, float]:
    import torch
    from transformers import AutoModelForCausalLM

    torch.set_num_threads(THREADS)
    model = AutoModelForCausalLM.from_pretrained(MODEL, dtype=torch.bfloat16)
    ids = torch.tensor([PROMPT_IDS])
    how = {"do_sample": TEMPERATURE > 0, "pad_token_id": 0, "attention_mask": torch.ones_like(ids)}
    how |= {"temperature": TEMPERATURE, "top_k": 0} if TEMPERATURE > 0 else {}

    def run(count: int) -> None:
        with torch.inference_mode():
            model.generate(ids, max_new_tokens=count, min_new_tokens=count, **how)

    return generating(lambda: run(1), lambda: run(TOKENS))


def vllm() -> tuple[float, float]:
    os.environ |= {
        "VLLM_CPU_OMP_THREADS_BIND": f"0-{THREADS - 1}" if THREADS > 1 else "0",
        "VLLM_CPU_KVCACHE_SPACE": "1",
        "HF_HUB_OFFLINE": "1",
        "VLLM_NO_USAGE_STATS": "1",
        "VLLM_LOGGING_LEVEL": "ERROR",
        "VLLM_WORKER_MULTIPROC_METHOD": "spawn",
    }
    from vllm import LLM, SamplingParams

    model = LLM(
        MODEL,
        skip_tokenizer_init=True,
        dtype="bfloat16",
        max_model_len=1024,
        max_num_seqs=1,
        enable_prefix_caching=False,
        enforce_eager=True,
        disable_log_stats=True,
    )

    def run(count: int) -> None:
        how = SamplingParams(temperature=TEMPERATURE, max_tokens=count, ignore_eos=True, detokenize=False)
        model.generate({"prompt_token_ids": PROMPT_IDS}, how, use_tqdm=False)

    return generating(lambda: run(1), lambda: run(TOKENS))


def llama() -> tuple[float, float]:
    from llama_cpp import Llama

    model = Llama(MODEL, n_ctx=1024, n_threads=THREADS, n_threads_batch=THREADS, n_batch=512, verbose=False)

    def run(count: int) -> None:
        model.reset()
        model.eval(PROMPT_IDS)
        for left in reversed(range(count)):
            token = model.sample(temp=TEMPERATURE, top_k=0, top_p=1.0, min_p=0.0)
            if left:
                model.eval([token])

    return generating(lambda: run(1), lambda: run(TOKENS))


if __name__ == "__main__":
    prefill, token = {"transformers": transformers, "vllm": vllm, "llama": llama}[KIND]()
    print(json.dumps({"prefill": prefill, "token": token}))
