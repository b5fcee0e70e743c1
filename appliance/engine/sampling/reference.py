"""The rules of docs/spec/sampling.md as they are written: plain Python, one step after the other, slow.

Python's float is IEEE 754 binary64 and its + - * / round once, so this is exact on every machine. `math.frexp` and
`math.ldexp` only take apart and put together; no other function of `math` is used.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Mapping, Sequence
from typing import Final

from appliance.engine.protocol import MICRO, Sampling
from appliance.engine.sampling.rules import Edit

LOG2_E: Final = float.fromhex("0x1.71547652b82fep+0")
LN_2: Final = float.fromhex("0x1.62e42fefa39efp-1")
SQRT_HALF: Final = float.fromhex("0x1.6a09e667f3bcdp-1")
EXP_TERMS: Final = tuple(1.0 / math.factorial(n) for n in range(10, -1, -1))
LN_TERMS: Final = tuple(1.0 / n for n in range(19, 0, -2))
LEAST_GAP: Final = -28.0  # exp(-28) is below 2^-40
WEIGHT_BITS: Final = 40
_WORD: Final = (1 << 64) - 1


def choose(logits: Sequence[float], sampling: Sampling, key: int, edits: Mapping[int, Edit]) -> int:
    """The token. `logits` are float32 values."""
    values = [_read(_edited(logit, sampling, edits[t]) if t in edits else logit) for t, logit in enumerate(logits)]
    best = max(values)
    if best == -math.inf:  # Y4
        return 0
    if sampling.temperature_micro == 0:  # Y5
        return values.index(best)
    gaps = gaps_of(values, best, sampling)
    left = survivors(values, gaps, sampling)
    return max(left, key=lambda token: (gaps[token] + noise(key, token), -token))  # Y11


def gaps_of(values: Sequence[float], best: float, sampling: Sampling) -> list[float]:
    temperature = sampling.temperature_micro / MICRO
    return [0.0 if value == best else (value - best) / temperature for value in values]


def survivors(values: Sequence[float], gaps: Sequence[float], sampling: Sampling) -> list[int]:
    """The tokens that may be chosen, in the order."""
    left = sorted(range(len(values)), key=lambda token: (-values[token], token))  # Y6
    if sampling.top_k:  # Y8
        left = left[: sampling.top_k]
    if sampling.top_p_micro < MICRO:  # Y9
        left = _nucleus(left, gaps, sampling.top_p_micro)
    if sampling.min_p_micro:  # Y10
        least = sampling.min_p_micro << WEIGHT_BITS
        left = [token for token in left if weight(gaps[token]) * MICRO >= least]
    return left


def _edited(logit: float, sampling: Sampling, edit: Edit) -> float:
    """Y3: in binary64, rounded to float32 once at the end."""
    penalty = sampling.repetition_penalty_micro / MICRO
    x = logit + edit.bias_micro / MICRO
    if edit.seen:
        x = x / penalty if x > 0.0 else x * penalty
    x = x - (sampling.frequency_penalty_micro / MICRO) * edit.count
    if edit.count > 0:
        x = x - sampling.presence_penalty_micro / MICRO
    return _float32(x)


def _float32(x: float) -> float:
    try:
        rounded: float = struct.unpack("<f", struct.pack("<f", x))[0]
    except OverflowError:
        return math.copysign(math.inf, x)
    return rounded


def _read(value: float) -> float:
    """Y4: not a number is as little as a number can be."""
    return -math.inf if math.isnan(value) else value


def _nucleus(order: list[int], gaps: Sequence[float], top_p_micro: int) -> list[int]:
    weights = [weight(gaps[token]) for token in order]
    total, held = sum(weights), 0
    for place, each in enumerate(weights):
        held += each
        if held * MICRO >= top_p_micro * total:
            return order[: place + 1]
    raise AssertionError("the whole is at least a part of itself")


def weight(gap: float) -> int:
    """Y12: the whole part of 2^40 exp(gap)."""
    if gap < LEAST_GAP:
        return 0
    n = int(gap * LOG2_E + 64.5) - 64
    r = gap - n * LN_2
    p = EXP_TERMS[0]
    for term in EXP_TERMS[1:]:
        p = p * r + term
    return int(math.ldexp(p, n + WEIGHT_BITS))


def ln(x: float) -> float:
    """Y13: of a positive normal number."""
    m, e = math.frexp(x)
    if m < SQRT_HALF:
        m, e = m * 2.0, e - 1
    s = (m - 1.0) / (m + 1.0)
    z = s * s
    p = LN_TERMS[0]
    for term in LN_TERMS[1:]:
        p = p * z + term
    return (2.0 * s) * p + e * LN_2


def noise(key: int, token: int) -> float:
    """Y14: a Gumbel draw that belongs to this key and this token."""
    z = (token * 0x9E3779B97F4A7C15 + key) & _WORD
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & _WORD
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & _WORD
    z ^= z >> 31
    u = ((z >> 12) + 0.5) * 2.0**-52
    return -ln(-ln(u))
