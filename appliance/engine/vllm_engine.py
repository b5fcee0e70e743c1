"""vLLM behind the engine protocol: breadth of models and devices, bound to one pinned profile.

Every setting known to move a bit is fixed here; `SETTINGS` and `ENVIRONMENT` are what the engine profile shows of
them. vLLM is asked for its greatest logit alone: `vllm_sampling.OneSampling`, inside its process, leaves our choice
as the only one (docs/spec/sampling.md).

Its bits are those of one profile: another thread count, instruction set or release is another engine. Nothing here
makes them independent of shape, as `fixed` is.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from importlib.metadata import version
from itertools import count
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, Self

from appliance.engine.errors import EngineRefused
from appliance.engine.protocol import EngineRequest, Step
from appliance.engine.sampling.rows import ARGUMENT, as_argument
from appliance.engine.trace import LEADERS, Trace
from foundation.digests import tagged_sha256

if TYPE_CHECKING:
    from vllm import LLMEngine, SamplingParams

ENGINE_ID: Final = "vllm-1"
CHOICE: Final = "appliance.engine.vllm_sampling:OneSampling"
BLOCK_SIZE: Final = 32      # the CPU's attention takes multiples of 32 alone

# What is read from the environment before vllm is imported, by it and by what it stands on.
ENVIRONMENT: Final[Mapping[str, str]] = {
    "ATEN_CPU_CAPABILITY": "avx2",
    "HF_HUB_OFFLINE": "1",
    "MKL_CBWR": "COMPATIBLE",
    "ONEDNN_MAX_CPU_ISA": "AVX2",
    "VLLM_CPU_ATTN_SPLIT_KV": "0",
    "VLLM_CPU_KVCACHE_SPACE": "1",
    "VLLM_CPU_OMP_THREADS_BIND": "0",
    "VLLM_ENABLE_V1_MULTIPROCESSING": "1",      # in one process the binding is ignored, silently
    "VLLM_LOGGING_LEVEL": "ERROR",
    "VLLM_NO_USAGE_STATS": "1",
    "VLLM_USE_V2_MODEL_RUNNER": "0",
    "VLLM_WORKER_MULTIPROC_METHOD": "spawn",
}
SETTINGS: Final[Mapping[str, Any]] = {
    "async_scheduling": False,
    "block_size": BLOCK_SIZE,
    "disable_log_stats": True,
    "dtype": "bfloat16",
    "enable_chunked_prefill": False,
    "enable_prefix_caching": False,
    "enforce_eager": True,
    "generation_config": "vllm",
    "logits_processors": [CHOICE],
    "logprobs_mode": "raw_logits",
    "max_logprobs": LEADERS,
    "max_num_seqs": 1,
    "seed": 0,
    "skip_tokenizer_init": True,
}


class VllmEngine:
    """One request at a time; closing a run in the middle aborts it before the next begins."""

    def __init__(self, folder: Path, positions_max: int) -> None:
        os.environ.update(ENVIRONMENT)
        from vllm import EngineArgs, LLMEngine  # noqa: PLC0415  # it reads the environment when imported

        self._positions_max: Final = positions_max
        self._numbers: Final = count()
        self._engine: LLMEngine = LLMEngine.from_engine_args(EngineArgs(
            model=str(folder), max_model_len=positions_max, max_num_batched_tokens=positions_max, **SETTINGS,
        ))

    @property
    def id(self) -> str:
        return ENGINE_ID

    @property
    def fingerprint(self) -> bytes:
        shown = {"versions": versions(), "environment": dict(ENVIRONMENT), "settings": dict(SETTINGS)}
        raw = json.dumps([self.id, self._positions_max, shown], sort_keys=True).encode()
        return tagged_sha256("anchorhold/engine/vllm/v1", raw)

    def run(self, request: EngineRequest) -> Iterator[Step]:
        if not 0 < len(request.prompt) <= self._positions_max - request.max_tokens:
            raise EngineRefused(
                "engine.length", expected=f"a prompt and {request.max_tokens} tokens within {self._positions_max}",
                got=len(request.prompt))
        number = str(next(self._numbers))
        trace = Trace()
        self._engine.add_request(number, {"prompt_token_ids": list(request.prompt)}, _params(request))
        try:
            for token, leaders in self._tokens(number):
                if token in request.stop_tokens:
                    return
                yield trace.step(token, leaders)
        finally:
            self._engine.abort_request([number])
            while self._engine.has_unfinished_requests():
                self._engine.step()

    def _tokens(self, number: str) -> Iterator[tuple[int, list[tuple[int, float]]]]:
        while self._engine.has_unfinished_requests():
            for output in self._engine.step():
                if output.request_id != number:
                    continue
                said = output.outputs[0]
                yield from zip(said.token_ids, map(_leaders, said.logprobs), strict=True)

    def close(self) -> None:
        """Ends its processes."""
        self._engine.engine_core.shutdown()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, reason: BaseException | None, at: TracebackType | None
    ) -> None:
        self.close()


def versions() -> dict[str, str]:
    """Of everything between a request and a logit."""
    return {name: version(name) for name in ("numpy", "torch", "transformers", "vllm-cpu")}


def _params(request: EngineRequest) -> SamplingParams:
    from vllm import SamplingParams  # noqa: PLC0415
    from vllm.sampling_params import RequestOutputKind  # noqa: PLC0415

    return SamplingParams(
        temperature=0, max_tokens=request.max_tokens, logprobs=LEADERS, detokenize=False, ignore_eos=True,
        output_kind=RequestOutputKind.DELTA, extra_args={ARGUMENT: as_argument(request.sampling, request.seed)},
    )


def _leaders(logits: Mapping[int, Any]) -> list[tuple[int, float]]:
    """The token that was chosen comes too, wherever it stands; only the greatest are of the trace."""
    greatest = sorted(((token, each.logprob) for token, each in logits.items()), key=lambda one: (-one[1], one[0]))
    return greatest[:LEADERS]
