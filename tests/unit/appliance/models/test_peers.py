"""The fixed engine beside `transformers`, on the same weights: text.md L28, every family and every switch of it.

With the peer's keys and values rounded as ours are, nothing but the order of float32 sums is left between the two.
"""

from __future__ import annotations

import random
from pathlib import Path

import pytest
import torch

from anchorhold.converting import convert
from appliance.engine.fixed.architecture import Format, Quantization, Tensor
from appliance.engine.fixed.engine import FixedEngine
from appliance.engine.protocol import EngineRequest
from appliance.models import LoadedModel, describe, load_model
from appliance.models.folder import open_folder
from tests.peers import CASES, greedy, logits, peer, write

TOKENS = 40
SPOKEN, SPOKEN_LEAST = 8, 6
TOLERANCE = 5e-3        # of the standard deviation of the logits, for any one; alike in the mean square
TYPICAL = 5e-4          # 5e-6 comes out as a rule, more where a key lies between two numbers of bf16 and falls apart


def prompt(name: str) -> list[int]:
    source = random.Random(f"{name} 4")       # one for which the peer is decided in every case
    return [source.randrange(320) for _ in range(TOKENS)]


def our_logits(engine: FixedEngine, tokens: list[int]) -> torch.Tensor:
    count, cache = len(tokens), engine.model.cache()
    places = engine.model.forward(tokens, [cache] * count, range(count), range(count))
    return torch.stack([torch.frombuffer(bytearray(engine.model.logits(at)), dtype=torch.float32) for at in places])


def errors(ours: torch.Tensor, theirs: torch.Tensor) -> tuple[float, float]:
    """The greatest, and the root of the mean square."""
    apart = (ours - theirs) / theirs.std()
    return float(apart.abs().max()), float(apart.pow(2).mean().sqrt())


def check_same(ours: torch.Tensor, theirs: torch.Tensor) -> None:
    greatest, typical = errors(ours, theirs)
    assert greatest < TOLERANCE
    assert typical < TYPICAL


@pytest.mark.parametrize("name", CASES)
def test_the_logits_and_the_greedy_tokens_are_the_peers(name: str, tmp_path: Path) -> None:
    made, tokens = peer(name), prompt(name)
    with open_folder(write(made, tmp_path / "model")) as folder:
        engine = FixedEngine(load_model(folder.tensors(), describe(folder.file("config.json"))))
        check_same(our_logits(engine, tokens), logits(made, tokens))
        theirs = greedy(made, tokens, SPOKEN, margin=2 * TOLERANCE)
        assert len(theirs) >= SPOKEN_LEAST, "the peer itself was undecided: choose another seed"
        request = EngineRequest(tuple(tokens), len(theirs), bytes(32))
        assert [step.token for step in engine.run(request)] == theirs


def test_without_our_rounding_the_peer_is_near_all_the_same(tmp_path: Path) -> None:
    made, tokens = peer("llama"), prompt("llama")
    with open_folder(write(made, tmp_path / "model")) as folder, torch.no_grad():
        engine = FixedEngine(load_model(folder.tensors(), describe(folder.file("config.json"))))
        theirs = made(torch.tensor([tokens])).logits[0]
        assert TYPICAL < errors(our_logits(engine, tokens), theirs)[1] < 1e-2


@pytest.mark.parametrize("quantization", [Quantization(Format.INT8, 64), Quantization(Format.INT4, 32)])
def test_a_quantized_model_is_the_peer_with_the_weights_that_were_kept(
    quantization: Quantization, tmp_path: Path
) -> None:
    made, tokens = peer("qwen3"), prompt("qwen3")
    convert(write(made, tmp_path / "model"), tmp_path / "small", quantization)
    with open_folder(tmp_path / "small") as folder:
        model = load_model(folder.tensors(), describe(folder.file("config.json")))
        assert model.architecture.quantization == quantization
        before = logits(made, tokens)
        _give(made, model, quantization.group)
        ours = our_logits(FixedEngine(model), tokens)
        check_same(ours, logits(made, tokens))
        assert errors(ours, before)[1] > TYPICAL, "nothing was lost, so nothing was quantized"


def _give(made: torch.nn.Module, model: LoadedModel, group: int) -> None:
    with torch.no_grad():
        for name, weight in made.named_parameters():
            tensor = model.tensor(name)
            if tensor.scales is not None:
                weight.copy_(_values(tensor, group))


def _unpacked(words: torch.Tensor) -> torch.Tensor:
    """engine.md X7, element by element: rows of pieces of sixteen words, to rows of codes."""
    pieces = torch.empty((*words.shape[:2], 128), dtype=torch.int32)
    for j in range(8):
        for i in range(16):
            pieces[:, :, 32 * (j // 2) + 2 * i + j % 2] = ((words[:, :, i] >> (4 * j)) & 15) - 8
    return pieces.reshape(words.shape[0], -1)


def _values(tensor: Tensor, group: int) -> torch.Tensor:
    rows, columns = tensor.shape
    raw = torch.frombuffer(bytearray(tensor.data), dtype=torch.uint8)
    if tensor.format is Format.INT8:
        codes = raw.view(torch.int8).reshape(rows, columns)
    else:
        codes = _unpacked(raw.view(torch.int32).reshape(rows, -1, 16))[:, :columns]
    scales = torch.frombuffer(bytearray(tensor.scales or b""), dtype=torch.bfloat16).reshape(rows, -1)
    return codes.float() * scales.float().repeat_interleave(group, 1)[:, :columns]
