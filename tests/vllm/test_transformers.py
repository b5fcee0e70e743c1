"""The fixed engine beside `transformers`, on the same weights: text.md L28, every family and every switch of it.

With the peer's factors, keys and values rounded as ours are, nothing but the order of float32 sums is left between the
two. Now and then that puts a number on the other side of a rounding, which these loud models then make much of; a
prompt where it does not happen shows that all else is the same.
"""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from anchorhold.owner.weight_conversion import convert
from appliance.engine.fixed.architecture import Format, Quantization, Tensor
from appliance.engine.fixed.engine import FixedEngine
from appliance.engine.protocol import EngineRequest
from appliance.models import LoadedModel, describe, load_model
from appliance.models.folder import open_folder
from tests.fixed_reference import codes_of
from tests.vllm.peers import CASES, greedy, logits, peer, to_codes, torch, write

pytestmark = pytest.mark.torch

PROMPTS, SPOKEN = 12, 4
TOKENS = 12  # more than any window here
ALIKE_LEAST = 2  # of the prompts; about half of them come out so
ALIKE = 2e-5  # of the standard deviation of the logits, in the mean square
ROUNDED = 5e-2, 1e-2  # where a number fell to another side: for any one, in the mean square
CODED = 1e-1, 2e-2  # alike, for the coarser steps of int8
PLAIN = 0.15, 2e-2  # without our rounding


def prompts(name: str) -> list[list[int]]:
    drawn = [random.Random(f"{name} {seed}") for seed in range(PROMPTS)]
    return [[source.randrange(320) for _ in range(TOKENS)] for source in drawn]


def our_logits(engine: FixedEngine, tokens: list[int]) -> torch.Tensor:
    count, cache = len(tokens), engine.model.cache()
    places = engine.model.forward(tokens, [cache] * count, range(count), range(count))
    return torch.stack([torch.frombuffer(bytearray(engine.model.logits(at)), dtype=torch.float32) for at in places])


def errors(ours: torch.Tensor, theirs: torch.Tensor) -> tuple[float, float]:
    """The greatest, and the root of the mean square."""
    apart = (ours - theirs) / theirs.std()
    return float(apart.abs().max()), float(apart.pow(2).mean().sqrt())


def check_same(ours: list[torch.Tensor], theirs: list[torch.Tensor], bounds: tuple[float, float] = ROUNDED) -> None:
    found = [errors(mine, other) for mine, other in zip(ours, theirs, strict=True)]
    assert max(found)[0] < bounds[0]
    assert max(typical for _, typical in found) < bounds[1]
    assert sum(typical < ALIKE for _, typical in found) >= ALIKE_LEAST


@pytest.mark.parametrize("name", CASES)
def test_the_logits_and_the_greedy_tokens_are_the_peers(name: str, tmp_path: Path) -> None:
    made, asked = peer(name), prompts(name)
    with open_folder(write(made, tmp_path / "model")) as folder:
        engine = FixedEngine(load_model(folder.tensors(), describe(folder.file("config.json"))))
        ours = [our_logits(engine, tokens) for tokens in asked]
        check_same(ours, [logits(made, tokens) for tokens in asked])
        said = 0
        for tokens in asked:
            theirs = greedy(made, tokens, SPOKEN, margin=2 * ROUNDED[0] * float(ours[0].std()))
            request = EngineRequest(tuple(tokens), SPOKEN, bytes(32))
            assert [step.token for step in engine.run(request)][: len(theirs)] == theirs
            said += len(theirs)
        assert said >= PROMPTS, "the peer itself was undecided: choose other seeds"


def test_without_our_rounding_the_peer_is_near_all_the_same(tmp_path: Path) -> None:
    made = peer("llama")
    with open_folder(write(made, tmp_path / "model")) as folder, torch.no_grad():
        engine = FixedEngine(load_model(folder.tensors(), describe(folder.file("config.json"))))
        for tokens in prompts("llama"):
            greatest, typical = errors(our_logits(engine, tokens), made(torch.tensor([tokens])).logits[0])
            assert greatest < PLAIN[0]
            assert ALIKE < typical < PLAIN[1]


@pytest.mark.parametrize("quantization", [Quantization(Format.INT8, 64), Quantization(Format.INT4, 32)])
def test_a_quantized_model_is_the_peer_with_the_weights_that_were_kept(
    quantization: Quantization, tmp_path: Path
) -> None:
    made, asked = peer("qwen3"), prompts("qwen3")
    convert(write(made, tmp_path / "model"), tmp_path / "small", quantization)
    with open_folder(tmp_path / "small") as folder:
        model = load_model(folder.tensors(), describe(folder.file("config.json")))
        assert model.architecture.quantization == quantization
        before = [logits(made, tokens) for tokens in asked]
        _give(made, model, quantization.group)
        engine = FixedEngine(model)
        ours = [our_logits(engine, tokens) for tokens in asked]
        check_same(ours, [logits(made, tokens, to_codes) for tokens in asked], CODED)
        assert all(errors(mine, other)[1] > CODED[1] for mine, other in zip(ours, before, strict=True)), (
            "nothing was lost, so nothing was quantized"
        )


def _give(made: torch.nn.Module, model: LoadedModel, group: int) -> None:
    with torch.no_grad():
        for name, weight in made.named_parameters():
            tensor = model.tensor(name)
            if tensor.scales is not None:
                weight.copy_(_values(tensor, group))


def _values(tensor: Tensor, group: int) -> torch.Tensor:
    blocks = [
        [([code * scale for code in codes]) for codes, scale in codes_of(tensor, n, group)]
        for n in range(tensor.shape[0])
    ]
    return torch.tensor(blocks).flatten(1)[:, : tensor.shape[1]]
