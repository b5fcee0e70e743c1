"""The same choice inside vLLM: a logits processor of its V1 runner, with greedy sampling underneath.

    LLM(..., logits_processors=["appliance.engine.vllm_sampling:OneSampling"])
    SamplingParams(temperature=0, extra_args={ARGUMENT: as_argument(sampling, seed)})

Each row is left with one token that is not minus infinity, so greedy takes it. Import this where vLLM is installed, in
whatever process its engine runs. The V2 runner has another interface, so VLLM_USE_V2_MODEL_RUNNER=0 belongs to the
profile.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from torch import float32
from vllm.v1.sample.logits_processor import LogitsProcessor, MoveDirectionality

from appliance.engine.fixed.proven import open_library
from appliance.engine.protocol import Sampling
from appliance.engine.sampling.native import NativeSampler, NativeSampling
from appliance.engine.sampling.rows import ARGUMENT, Rows, as_argument, of_argument
from appliance.engine.sampling.rules import SamplingRefused

if TYPE_CHECKING:
    import torch
    from vllm import SamplingParams
    from vllm.config import VllmConfig
    from vllm.v1.sample.logits_processor import BatchUpdate

__all__ = ["ARGUMENT", "OneSampling", "as_argument"]


class _Compiled:
    """`sampling.c` over a row of float32 in memory."""

    def __init__(self, sampling: Sampling, seed: bytes, prompt: tuple[int, ...], vocabulary: int) -> None:
        self._sampler = NativeSampler(NativeSampling(open_library().kernels, vocabulary), sampling, seed, prompt)
        self.resume = self._sampler.resume

    def choose(self, row: torch.Tensor) -> int:
        return self._sampler.choose_at(row.data_ptr())


class OneSampling(LogitsProcessor):  # type: ignore[misc]   # vLLM is not always here, nor typed
    """Applies to the requests that carry the argument, and to no other."""

    @classmethod
    def validate_params(cls, sampling_params: SamplingParams) -> None:
        if (arguments := sampling_params.extra_args) and ARGUMENT in arguments:
            try:
                of_argument(arguments[ARGUMENT])
            except SamplingRefused as reason:
                raise ValueError(str(reason)) from None
            if sampling_params.temperature != 0:
                raise ValueError(f"{ARGUMENT}: expected temperature 0 underneath, got another")

    def __init__(self, vllm_config: VllmConfig, device: torch.device, is_pin_memory: bool) -> None:  # noqa: ARG002
        self._rows = Rows(vllm_config.model_config.get_vocab_size(), _Compiled)

    def is_argmax_invariant(self) -> bool:
        return False

    def update_state(self, batch_update: BatchUpdate | None) -> None:
        if batch_update is None:
            return
        for number in batch_update.removed:
            self._rows.remove(number)
        for number, params, prompt, said in batch_update.added:
            self._rows.add(number, params.extra_args, prompt or (), said)
        for number, to, direction in batch_update.moved:
            self._rows.move(number, to, swap=direction is MoveDirectionality.SWAP)

    def apply(self, logits: torch.Tensor) -> torch.Tensor:
        for number in self._rows:
            row = logits[number]
            token = self._rows.choose(number, row.to("cpu", dtype=float32).contiguous())
            row.fill_(-math.inf)
            row[token] = 0.0
        return logits
