"""Golden prompts: an engine must reproduce their exact answers before it may serve.

A golden prompt is token ids with a seed and a sampling, and digests of the tokens and of the trace that came of them
where the profile was written. They run at every boot. They show that this engine on this machine gives the bits the
profile was written for, as far as these prompts reach; they do not show that it gives them for every prompt.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from typing import Final

from appliance.engine.protocol import MICRO, SEED_BYTES, Engine, EngineRequest, Sampling
from foundation.digests import DIGEST_BYTES, tagged_sha256
from foundation.refusal import Refused

TOKENS_TAG: Final = "anchorhold/golden-tokens/v1"
PROMPT_TAG: Final = "anchorhold/golden-prompt/v1"
TOKENS_MAX: Final = 1 << 16
PREFILL_EDGES: Final = (1, 7, 33, 65)  # a token alone, and one more than what kernels take at once


class GoldenRefused(Refused):
    """No golden prompt."""

    stage = "golden"


class GoldenMissed(Refused):
    """An engine that does not say what it said. Names the prompt by its place, and which digest differs."""

    stage = "golden"


@dataclass(frozen=True, slots=True)
class Golden:
    """One prompt, and what came of it."""

    prompt: tuple[int, ...]
    seed: bytes
    max_tokens: int
    sampling: Sampling
    said: int
    tokens: bytes
    trace: bytes

    def __post_init__(self) -> None:
        if not 1 <= len(self.prompt) <= TOKENS_MAX or not 1 <= self.max_tokens <= TOKENS_MAX:
            raise GoldenRefused(
                "golden.length",
                expected=f"1 to {TOKENS_MAX} tokens in and out",
                got=f"{len(self.prompt)} in and {self.max_tokens} out",
            )
        if not self.said <= self.max_tokens:
            raise GoldenRefused("golden.said", expected=f"at most {self.max_tokens}", got=self.said)
        for digest, size in ((self.seed, SEED_BYTES), (self.tokens, DIGEST_BYTES), (self.trace, DIGEST_BYTES)):
            if len(digest) != size:
                raise GoldenRefused("golden.digest", expected=f"{size} bytes", got=len(digest))

    def plain(self) -> dict[str, object]:
        sampling = {**asdict(self.sampling), "logit_bias": [list(each) for each in self.sampling.logit_bias]}
        return {
            "prompt": list(self.prompt),
            "seed": self.seed.hex(),
            "max_tokens": self.max_tokens,
            "sampling": sampling,
            "said": self.said,
            "tokens": self.tokens.hex(),
            "trace": self.trace.hex(),
        }


def record(engine: Engine, request: EngineRequest) -> Golden:
    """What the engine says to this, as it is written into a profile."""
    tokens, trace = [], bytes(DIGEST_BYTES)
    for step in engine.run(request):
        tokens.append(step.token)
        trace = step.trace
    digest = tagged_sha256(TOKENS_TAG, struct.pack(f"<{len(tokens)}I", *tokens))
    return Golden(request.prompt, request.seed, request.max_tokens, request.sampling, len(tokens), digest, trace)


def prove(engine: Engine, golden: Iterable[Golden], stop_tokens: frozenset[int]) -> int:
    """profile.md F7: every golden prompt, in order. Returns how many. Raises `GoldenMissed` at the first miss."""
    count = 0
    for place, wanted in enumerate(golden):
        request = EngineRequest(wanted.prompt, wanted.max_tokens, wanted.seed, wanted.sampling, stop_tokens)
        came = record(engine, request)
        for name in ("said", "tokens", "trace"):
            expected, got = getattr(wanted, name), getattr(came, name)
            if expected != got:
                raise GoldenMissed(f"golden.{name}", expected=f"{_shown(expected)} of prompt {place}", got=_shown(got))
        count += 1
    return count


def questions(vocabulary: int, length_max: int, stop_tokens: frozenset[int], *, tokens: int) -> list[EngineRequest]:
    """Prompts for a new profile: every kind of sampling, the lengths where kernels change pace, and one that repeats.

    Ids are drawn from a digest: as text they mean nothing, which makes the leading logits close and the test sharp.
    """
    repeated = _drawn(vocabulary, "repeat", 9) * 8
    prompts = [_drawn(vocabulary, str(length), length) for length in PREFILL_EDGES]
    prompts += [repeated, repeated[:-1] + _drawn(vocabulary, "tail", 1)]
    requests = []
    for number, prompt in enumerate(prompts):
        fitting = prompt[: max(1, length_max - tokens)]
        sampling = _SAMPLINGS[number % len(_SAMPLINGS)]
        if sampling.logit_bias:
            sampling = replace(sampling, logit_bias=((fitting[0], 2 * MICRO),))
        seed = tagged_sha256(PROMPT_TAG, b"seed", bytes((number,)))
        requests.append(EngineRequest(fitting, min(tokens, length_max - len(fitting)), seed, sampling, stop_tokens))
    return [request for request in requests if request.max_tokens > 0]


_SAMPLINGS: Final = (
    Sampling(),
    Sampling(temperature_micro=MICRO),
    Sampling(temperature_micro=700_000, top_k=40, top_p_micro=900_000),
    Sampling(temperature_micro=MICRO, top_p_micro=950_000, min_p_micro=20_000),
    Sampling(repetition_penalty_micro=1_200_000, frequency_penalty_micro=300_000, presence_penalty_micro=100_000),
    Sampling(temperature_micro=500_000, logit_bias=((0, 2 * MICRO),)),
)


def _drawn(vocabulary: int, name: str, length: int) -> tuple[int, ...]:
    draws = (tagged_sha256(PROMPT_TAG, name.encode(), struct.pack("<I", at)) for at in range(length))
    return tuple(int.from_bytes(draw[:8], "little") % vocabulary for draw in draws)


def _shown(value: object) -> str:
    return value.hex() if isinstance(value, bytes) else str(value)
