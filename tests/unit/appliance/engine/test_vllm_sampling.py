"""vLLM's seam, where vLLM is installed: its own batch updates in, one token a row left."""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any

import pytest

from appliance.engine.protocol import MICRO, Sampling
from appliance.engine.sampling.sampler import Sampler

pytestmark = pytest.mark.vllm
SAMPLING = Sampling(temperature_micro=MICRO, top_k=20)


@pytest.fixture
def seam() -> Any:
    pytest.importorskip("vllm", reason="vllm is not installed here")
    from appliance.engine import vllm_sampling

    return vllm_sampling


def test_greedy_underneath_takes_the_token_that_sampling_chooses(seam: Any) -> None:
    import torch
    from vllm import SamplingParams
    from vllm.v1.sample.logits_processor import BatchUpdate

    config = SimpleNamespace(model_config=SimpleNamespace(get_vocab_size=lambda: 64))
    processor = seam.OneSampling(config, torch.device("cpu"), False)
    assert not processor.is_argmax_invariant()
    said: list[int] = []
    params = SamplingParams(temperature=0, extra_args={seam.ARGUMENT: seam.as_argument(SAMPLING, bytes(32))})
    seam.OneSampling.validate_params(params)
    processor.update_state(BatchUpdate(1, removed=[], added=[(0, params, [1, 2], said)], moved=[]))
    alone = Sampler(SAMPLING, bytes(32), (1, 2), 64)
    for step in range(10):
        logits = torch.tensor([[math.sin(token * (step + 1)) for token in range(64)]])
        expected = alone.choose(logits[0].tolist())
        said.append(int(processor.apply(logits)[0].argmax()))
        assert said[-1] == expected


def test_a_sampling_that_is_none_is_refused_at_the_door(seam: Any) -> None:
    from vllm import SamplingParams

    good = seam.as_argument(SAMPLING, bytes(32))
    for params in (
        SamplingParams(temperature=0, extra_args={seam.ARGUMENT: {**good, "top_p_micro": 0}}),
        SamplingParams(temperature=1, extra_args={seam.ARGUMENT: good}),
    ):
        with pytest.raises(ValueError, match="sampling"):
            seam.OneSampling.validate_params(params)
