"""vLLM on the CPU as an engine: what its pinned profile promises, shown on random weights.

Where vllm is not installed these skip; `make vllm` installs and runs them.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import pytest

from appliance.engine.errors import EngineRefused
from appliance.engine.protocol import MICRO, EngineRequest, Sampling, Step
from foundation.refusal import Refused

# What vllm and torch warn each other of is theirs.
pytestmark = [pytest.mark.vllm, pytest.mark.filterwarnings("ignore")]
pytest.importorskip("vllm", reason="vllm is not installed here: `make vllm` brings it")

POSITIONS = 256
SHAPE: dict[str, Any] = {
    "vocab_size": 1024,
    "hidden_size": 2048,
    "intermediate_size": 2112,
    "num_hidden_layers": 2,
    "num_attention_heads": 16,
    "num_key_value_heads": 4,
    "max_position_embeddings": POSITIONS,
    "tie_word_embeddings": False,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
TEMPERATURES = (0, 700_000, MICRO)
NEAR = 0.05  # of logits of size 1: what bf16 activations, rounded at every layer, may move


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Random weights, wide enough that an order of summing shows."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(7)
    where = tmp_path_factory.mktemp("model")
    LlamaForCausalLM(LlamaConfig(**SHAPE)).to(torch.bfloat16).save_pretrained(where)
    return where


def start(folder: Path) -> Any:
    from appliance.engine.vllm_engine import VllmEngine

    return VllmEngine(folder, POSITIONS)


@pytest.fixture(scope="module")
def engine(folder: Path) -> Iterator[Any]:
    with start(folder) as running:
        yield running


def request(number: int, temperature_micro: int, max_tokens: int = 12) -> EngineRequest:
    prompt = tuple((number * 37 + place * 11) % 1000 + 3 for place in range(20 + number % 13))
    return EngineRequest(prompt, max_tokens, bytes([number]) * 32, Sampling(temperature_micro, top_p_micro=950_000))


def said(engine: Any, asked: EngineRequest) -> list[Step]:
    return list(engine.run(asked))


ASKED = [request(number, temperature) for number in range(4) for temperature in TEMPERATURES]


def test_the_same_steps_whatever_ran_before_was_cancelled_or_restarted(folder: Path) -> None:
    with start(folder) as engine:
        fingerprint = engine.fingerprint
        alone = [said(engine, each) for each in ASKED]
        assert all(len(steps) == 12 for steps in alone)
        for place, each in reversed(list(enumerate(ASKED))):
            running = engine.run(request(100 + place, MICRO, 40))
            list(islice(running, 3))
            running.close()
            assert said(engine, each) == alone[place]
    with start(folder) as another:
        assert another.fingerprint == fingerprint
        assert [said(another, each) for each in ASKED] == alone


def test_it_computes_in_this_process_and_a_second_one_beside_it_is_refused(folder: Path, engine: Any) -> None:
    """secrecy.md S9: the cell starts nobody."""
    tasks = Path("/proc/self/task").iterdir()
    children = "".join((task / "children").read_text() for task in tasks).split()
    assert [child for child in children if "resource_tracker" not in Path(f"/proc/{child}/cmdline").read_text()] == []
    before = said(engine, request(3, 0))
    with pytest.raises(EngineRefused, match=r"engine\.process"):
        start(folder)
    assert said(engine, request(3, 0)) == before


def test_torch_loaded_for_more_threads_is_refused(folder: Path) -> None:
    asked = f"""
import torch
from pathlib import Path
from appliance.engine.vllm_engine import VllmEngine
try:
    VllmEngine(Path({str(folder)!r}), {POSITIONS})
except Exception as refusal:
    print(refusal)
"""
    ended = subprocess.run(
        [sys.executable, "-c", asked],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "OMP_NUM_THREADS": "2"},
    )
    assert ended.stdout.endswith("OMP_NUM_THREADS=1 from before torch was loaded, got 2\n")


def test_the_seed_and_the_temperature_choose(engine: Any) -> None:
    cold = {tuple(said(engine, EngineRequest((5, 6, 7), 8, bytes([seed]) * 32))) for seed in range(3)}
    warm = {tuple(said(engine, EngineRequest((5, 6, 7), 8, bytes([seed]) * 32, Sampling(MICRO)))) for seed in range(3)}
    assert (len(cold), len(warm)) == (1, 3)


def test_greedy_answers_part_from_those_of_fixed_only_where_two_logits_are_near(folder: Path, engine: Any) -> None:
    """engine.md: another engine has other bits. Where the answers first part, `fixed` itself must see a near tie."""
    from appliance.engine.fixed.engine import FixedEngine
    from appliance.engine.fixed.sequence import Cached, fill
    from appliance.models.config import describe
    from appliance.models.folder import open_folder
    from appliance.models.loaded_model import load_model

    with open_folder(folder) as files:
        fixed = FixedEngine(load_model(files.tensors(), describe(files.file("config.json"))))
        agreed = 0
        for number in range(8):
            asked = request(number, 0)
            ours, theirs = ([step.token for step in said(each, asked)] for each in (fixed, engine))
            parted = next((n for n in range(12) if ours[n] != theirs[n]), None)
            agreed += 12 if parted is None else parted
            if parted is not None:
                model, seen = fixed.model, (*asked.prompt, *ours[:parted])
                logits = fixed._sampling.leaders(fill(model, Cached(model.cache()), seen), 64)
                found = dict(logits)
                assert theirs[parted] in found
                assert found[ours[parted]] - found[theirs[parted]] < NEAR
        del fixed
    assert agreed > 0


def test_a_stop_token_ends_the_answer_without_being_said(engine: Any) -> None:
    whole = said(engine, request(1, 0))
    stop = whole[5].token
    first = next(place for place, step in enumerate(whole) if step.token == stop)
    asked = request(1, 0)
    cut = EngineRequest(asked.prompt, asked.max_tokens, asked.seed, asked.sampling, frozenset({stop}))
    assert said(engine, cut) == whole[:first]


@pytest.mark.parametrize("prompt", [(), tuple(range(3, 3 + POSITIONS))], ids=["empty", "too-long"])
def test_what_does_not_fit_is_refused_and_disturbs_nothing(engine: Any, prompt: tuple[int, ...]) -> None:
    before = said(engine, request(2, MICRO))
    with pytest.raises(Refused, match=r"engine\.length"):
        said(engine, EngineRequest(prompt, 4, bytes(32)))
    assert said(engine, request(2, MICRO)) == before


def test_the_fingerprint_names_what_can_move_a_bit(engine: Any) -> None:
    from appliance.engine import vllm_engine

    shown = json.dumps([dict(vllm_engine.ENVIRONMENT), dict(vllm_engine.SETTINGS)])
    for name in ("OMP_THREADS_BIND", "ONEDNN_MAX_CPU_ISA", "enforce_eager", "max_num_seqs", "block_size"):
        assert name in shown
