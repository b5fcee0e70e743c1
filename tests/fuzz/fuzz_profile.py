"""Invariant: any bytes are an engine profile that reads back from its own writing, or refused as `ProfileRefused`."""

from __future__ import annotations

from appliance.engine.golden import record
from appliance.engine.profile import Machine, Profile, ProfileRefused, Settings, encode
from appliance.engine.protocol import EngineRequest, Sampling
from appliance.engine.scripted import ScriptedEngine

_DIGEST = "ab" * 32
_SETTINGS = Settings(
    "torch-1",
    _DIGEST,
    "torch",
    "sampling-1",
    "trace",
    "bf16",
    "bf16",
    "float32",
    512,
    *[_DIGEST] * 4,
    (2, 7),
    Sampling(700_000, logit_bias=((3, 5),)),
    {"tokenizers": "0.23.3"},
    Machine("cpu", "avx2", 2, "0-1", {"OMP_NUM_THREADS": "2"}, {"a": "b"}, {}),
)
SEEDS: list[bytes] = [
    encode(_SETTINGS, (record(ScriptedEngine(), EngineRequest(tuple(b"user:hello\n"), 3, bytes(32))),)),
    b'{"version": 1, "settings": {}, "golden": []}',
]


def one_input(data: bytes) -> None:
    try:
        profile = Profile.parse(data)
    except ProfileRefused:
        return
    again = Profile.parse(profile.encode())
    if (again.settings, again.golden) != (profile.settings, profile.golden):
        raise AssertionError("a profile is written as another")
