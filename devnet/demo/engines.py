"""Which engine answers in the demo, and what the owner of the model writes for it.

    choice = Choice("vllm")
    choice.check_installed()
    with key_owner(folder, choice.write_model) as owner: ...
    choice.lines(folder / "model")                  # what the measured configuration says of it

All four answer over the same little model, but `scripted`, which has none to answer with and a pack all the same.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping
from enum import Enum
from importlib.util import find_spec
from pathlib import Path
from typing import Final

from devnet import engine_profiles, little_model


class EngineAbsent(Exception):
    """What the chosen engine stands on is not installed beside this interpreter, or could not be started."""


class Choice(Enum):
    SCRIPTED = "scripted"
    FIXED = "fixed"
    TORCH = "torch"
    VLLM = "vllm"

    def check_installed(self) -> None:
        """Raises `EngineAbsent`."""
        library = _LIBRARIES.get(self)
        if library is not None and find_spec(library) is None:
            raise EngineAbsent(
                f"the engine {self.value} needs {library}, which this environment is without; `make vllm` makes the "
                f"one that has it, and `make demo ENGINE={self.value}` runs there"
            )

    def write_model(self, target: Path) -> None:
        """Makes `target` with the little model, and the profile of this engine where it has one."""
        match self:
            case Choice.SCRIPTED:
                little_model.write(target)
            case Choice.FIXED:
                engine_profiles.write(target)
            case Choice.TORCH | Choice.VLLM:
                little_model.write(target)
                _profile(target, _IDS[self])

    def lines(self, model: Path) -> str:
        """Of the measured configuration."""
        if self is Choice.SCRIPTED:
            return f'engine = "{_IDS[self]}"'
        return engine_profiles.engine_lines(model, _IDS[self])

    def replayed(self, answers: int) -> str:
        """What it is worth that so many were computed again, to the bit."""
        again = f"{answers} answers computed again by the owner of the keys: the same, to the bit"
        match self:
            case Choice.SCRIPTED:
                return f"{again} (scripted: words that no model weighed)"
            case Choice.FIXED:
                return again
            case Choice.TORCH | Choice.VLLM:
                return f"{again} ({_IDS[self]} under the same profile, on the same machine: no more is promised)"


_IDS: Final[Mapping[Choice, str]] = {
    Choice.SCRIPTED: "scripted-1",
    Choice.FIXED: "fixed-1",
    Choice.TORCH: "torch-1",
    Choice.VLLM: "vllm-1",
}
_LIBRARIES: Final[Mapping[Choice, str]] = {Choice.TORCH: "torch", Choice.VLLM: "vllm"}


def _profile(model: Path, engine: str) -> None:
    """By the owner's own command, in a process of its own: what an engine leaves in one stays out of the cell's."""
    ended = subprocess.run(
        [
            sys.executable,
            "-m",
            "anchorhold.command",
            "engine",
            "profile",
            str(model),
            "--engine",
            engine,
            "--tokens",
            str(engine_profiles.GOLDEN_TOKENS),
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    if ended.returncode:
        last = ended.stderr.strip().splitlines()[-1:] or ["no word"]
        raise EngineAbsent(f"`anchorhold engine profile --engine {engine}` ended with {ended.returncode}: {last[0]}")
