"""The profile of a model's engine, written where it runs: its observed settings and the results of its golden prompts.

    written = write_profile(folder, engine="fixed-1", sampling=claims.sampling, length_max=None, threads=2, tokens=16)
    written.raw                     # the bytes of engine-profile.json, before the folder is sealed

It says what this machine does. That another machine does the same is what a cell proves with it (docs/spec/profile.md).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from appliance.engine.golden import questions, record
from appliance.engine.profile import Settings, digest_of, encode
from appliance.engine_start import ModelFiles, close, load

GOLDEN_TOKENS: Final = 16  # of each answer, unless somebody says otherwise


@dataclass(frozen=True, slots=True)
class Written:
    raw: bytes
    settings: Settings
    golden: int  # how many golden prompts

    @property
    def digest(self) -> bytes:
        return digest_of(self.raw)


def write_profile(
    model: ModelFiles,
    *,
    engine: str,
    sampling: Mapping[str, int],
    length_max: int | None,
    threads: int,
    tokens: int = GOLDEN_TOKENS,
) -> Written:
    """`length_max` None: all the model can; `tokens`: of each golden prompt's answer. Raises as `engine_start.load`."""
    loaded = load(model, engine=engine, sampling=sampling, length_max=length_max, threads=threads)
    try:
        asked = questions(loaded.vocabulary, loaded.observed.length_max, loaded.text.stop_tokens, tokens=tokens)
        raw = encode(loaded.observed, tuple([record(loaded.engine, request) for request in asked]))
    finally:
        close(loaded.engine)
    return Written(raw, loaded.observed, len(asked))
