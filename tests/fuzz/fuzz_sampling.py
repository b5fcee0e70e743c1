"""Invariant: any logits, sampling and seed give in C the token and the leaders that the reference gives, and stay as
they were."""

from __future__ import annotations

import ctypes
import struct
import tempfile
from array import array
from pathlib import Path
from typing import Final

from appliance.engine.fixed.library import PATH
from appliance.engine.protocol import SEED_BYTES, Sampling
from appliance.engine.sampling import reference
from appliance.engine.sampling.native import NativeSampler, NativeSampling
from appliance.engine.sampling.rules import RANGES, History, key_of
from appliance.engine.trace import LEADERS, packed
from tests.native import SAMPLING, compiled

LIBRARY: Final = ctypes.CDLL(str(PATH)) if PATH.is_file() else compiled(SAMPLING, Path(tempfile.mkdtemp()), "-O2")
LOGITS_MAX: Final = 300
STEPS: Final = 2
_HEAD: Final = struct.Struct(f"<{len(RANGES)}IB")


def _written(sampling: Sampling, logits: list[float], copies: int = 1) -> bytes:
    numbers = [getattr(sampling, name) - least for name, (least, _) in RANGES.items()]
    return _HEAD.pack(*numbers, copies - 1) + array("f", logits).tobytes()


SEEDS: list[bytes] = [
    _written(Sampling(), [1.0, 2.0, -0.5, 2.0, 0.25]),
    _written(Sampling(temperature_micro=800_000, top_k=4, top_p_micro=900_000), [1.0, 2.0, -0.5, 2.0, 0.25], 40),
    _written(Sampling(temperature_micro=1_000_000, top_p_micro=950_000), [(t * 37 % 101) / 9 for t in range(200)], 3),
    _written(Sampling(temperature_micro=700_000, top_k=70, min_p_micro=1_000), [float(t % 7) for t in range(150)], 2),
    _written(
        Sampling(
            temperature_micro=1_000_000,
            top_p_micro=500_000,
            repetition_penalty_micro=1_200_000,
            frequency_penalty_micro=300_000,
        ),
        [float("inf"), float("nan"), float("-inf"), 3.4e38, -0.0, 0.0],
    ),
    _written(Sampling(temperature_micro=1, top_p_micro=999_999), [5.0] * 65),
]


def one_input(data: bytes) -> None:
    if len(data) < _HEAD.size + 4:
        return
    *numbers, copies = _HEAD.unpack_from(data)
    sampling = Sampling(
        **{
            name: least + number % (most - least + 1)
            for (name, (least, most)), number in zip(RANGES.items(), numbers, strict=True)
        }
    )
    body = data[_HEAD.size :]
    logits = (array("f", body[: len(body) // 4 * 4]) * (copies % 64 + 1))[:LOGITS_MAX]
    before = logits.tobytes()
    seed = data[-SEED_BYTES:].rjust(SEED_BYTES, b"\0")
    native = NativeSampler(NativeSampling(LIBRARY, len(logits)), sampling, seed, (0, 1))
    history = History(sampling, (0, 1), len(logits))
    finite = (token for token, logit in enumerate(logits) if logit > float("-inf"))
    leaders = packed([(t, logits[t]) for t in sorted(finite, key=lambda t: (-logits[t], t))[:LEADERS]])
    for position in range(STEPS):
        expected = reference.choose(logits, sampling, key_of(seed, position), history.edits)
        history.said(expected)
        if native.choose(logits) != expected:
            raise AssertionError("another token than the reference's")
        if native.led() != leaders:
            raise AssertionError("other leaders than the first of the order")
    if logits.tobytes() != before:
        raise AssertionError("logits are not left as they were")
