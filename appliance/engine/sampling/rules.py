"""What a sampling may ask for, the key of a position, and what the tokens so far change about a logit."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from appliance.engine.protocol import MICRO, SEED_BYTES, Sampling
from foundation.digests import tagged_sha256
from foundation.refusal import Refused

VERSION: Final = "sampling-1"
VOCABULARY_MAX: Final = 1 << 20
KEY_TAG: Final = "anchorhold/sampling/v1"

# sampling.md Y2, in the order of sampling.h. Wider than what a chat request may say: a model has defaults of its own.
RANGES: Final = {
    "temperature_micro": (0, 100 * MICRO),
    "top_k": (0, VOCABULARY_MAX),
    "top_p_micro": (1, MICRO),
    "min_p_micro": (0, MICRO),
    "repetition_penalty_micro": (MICRO // 100, 100 * MICRO),
    "presence_penalty_micro": (-100 * MICRO, 100 * MICRO),
    "frequency_penalty_micro": (-100 * MICRO, 100 * MICRO),
}
BIAS_MICRO_MAX: Final = 1000 * MICRO


class SamplingRefused(Refused):
    """A sampling no token can be chosen by. No request that passed its limits is one."""

    stage = "sampling"


def check(sampling: Sampling) -> None:
    """sampling.md Y2: ranges, and a bias once per token, in order. Raises `SamplingRefused`."""
    for name, (least, most) in RANGES.items():
        value = getattr(sampling, name)
        if not least <= value <= most:
            raise SamplingRefused(f"sampling.{name}", expected=f"{least} to {most}", got=value)
    before = -1
    for token, bias in sampling.logit_bias:
        if token <= before:
            raise SamplingRefused(
                "sampling.logit_bias", expected="tokens ascending", got="a token that is not above its predecessor"
            )
        if not -BIAS_MICRO_MAX <= bias <= BIAS_MICRO_MAX:
            raise SamplingRefused("sampling.logit_bias", expected=f"at most {BIAS_MICRO_MAX} either way", got=bias)
        before = token


def key_of(seed: bytes, position: int) -> int:
    """sampling.md Y7: everything random about one token. `position` counts the tokens of the answer from 0."""
    if len(seed) != SEED_BYTES:
        raise SamplingRefused("sampling.seed", expected=f"{SEED_BYTES} bytes", got=len(seed))
    return int.from_bytes(tagged_sha256(KEY_TAG, seed, position.to_bytes(8, "big"))[:8], "big")


@dataclass(slots=True)
class Edit:
    """What is known about a token that changes its logit (Y3)."""

    bias_micro: int = 0
    seen: bool = False  # in the prompt or in the answer so far
    count: int = 0  # times in the answer so far


class History:
    """The tokens so far, as far as they matter: with no penalty asked for, none is kept."""

    def __init__(self, sampling: Sampling, prompt: Iterable[int], vocabulary: int) -> None:
        check(sampling)
        if not 1 <= vocabulary <= VOCABULARY_MAX:
            raise SamplingRefused("sampling.vocabulary", expected=f"1 to {VOCABULARY_MAX}", got=vocabulary)
        self._repeats = sampling.repetition_penalty_micro != MICRO
        self._counts = bool(sampling.presence_penalty_micro or sampling.frequency_penalty_micro)
        self.edits: dict[int, Edit] = {token: Edit(bias) for token, bias in sampling.logit_bias if token < vocabulary}
        if self._repeats:
            for token in prompt:
                if 0 <= token < vocabulary:
                    self._edit(token).seen = True

    def said(self, token: int) -> Edit | None:
        """What is now known about the token, if it matters."""
        if not (self._repeats or self._counts):
            return None
        edit = self._edit(token)
        edit.seen = True
        edit.count += 1
        return edit

    def _edit(self, token: int) -> Edit:
        return self.edits.setdefault(token, Edit())
