"""Every environment variable that a run of the tests listens to: docs/testing.md has the same table.

    RUNS = sized("ANCHORHOLD_SIMULATION_RUNS")

A size has a quick value, which `make test` takes, and a full one, which `make test-all` takes by ANCHORHOLD_FULL=1. A
variable of its own goes before both.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class Size:
    name: str
    quick: int
    full: int
    what: str


FULL: Final = "ANCHORHOLD_FULL"
REQUIRE_ALL: Final = "ANCHORHOLD_REQUIRE_ALL"
EVERY_BYTE: Final = "ANCHORHOLD_EVERY_BYTE"
ENGINE: Final = "ANCHORHOLD_ENGINE"

SIZES: Final = (
    Size("ANCHORHOLD_SIMULATION_RUNS", 1_000, 10_000, "simulated networks between host and cell"),
    Size("ANCHORHOLD_CONNECTIONS", 300, 2_000, "hostile connections beside one good host"),
    Size("ANCHORHOLD_MUTATIONS", 500, 3_000, "mutated inputs for each fuzzer's invariant"),
    Size("ANCHORHOLD_RELEASES", 20, 60, "keys released while the broker is killed; 1,000 for docs/broker-operator.md"),
    Size("ANCHORHOLD_CELLS", 3, 3, "cells that must say the same; 13 in `make test-cells`"),
    Size("ANCHORHOLD_PROMPTS", 24, 36, "prompts they are given; 200 in `make test-cells`"),
    Size("ANCHORHOLD_UPGRADE_PROMPTS", 30, 60, "prompts during an upgrade; 500 were run"),
    Size("ANCHORHOLD_SAMPLING_CASES", 1_000, 2_000, "drawn cases of the sampler, each instruction set"),
    Size("ANCHORHOLD_MATRIX_RUNS", 3, 3, "runs of each cell of the engine's matrix of batches, threads and variants"),
    Size("ANCHORHOLD_PAIRS", 500, 1_000, "requests paired with what a model may say to them"),
    Size("ANCHORHOLD_PORTS", 7_000, 7_000, "ports of the booted machine that are tried"),
    Size("ANCHORHOLD_HOSTILE", 2_000, 2_000, "hostile connections to the booted machine"),
)
FLAGS: Final = {
    FULL: "sizes that are not named take their full value",
    REQUIRE_ALL: "a test that skips is a failure, unless tests/skips.py allows its reason",
    EVERY_BYTE: "every byte of an audit bundle and a receipt log is changed, not one in some hundreds: twenty minutes",
}
OTHERS: Final = {
    ENGINE: "the engine of the cells that must say the same: `fixed-1` where its kernels are built, or `scripted-1`",
    "ANCHORHOLD_DEBIAN_MIRROR": "where Debian's packages are fetched, for images and for booting: not the tests' alone",
    "FUZZ_SECONDS": "seconds for each fuzzer in `make fuzz`: 10 unless it says another number",
}


def flag(name: str) -> bool:
    """Set to anything but nothing and 0."""
    return name in FLAGS and os.environ.get(name, "0") not in {"", "0"}


def sized(name: str) -> int:
    """Raises `ValueError` for what is no number above 0."""
    [size] = [each for each in SIZES if each.name == name]
    said = os.environ.get(name)
    if said is None:
        return size.full if flag(FULL) else size.quick
    if not re.fullmatch(r"[1-9][0-9]{0,8}", said):
        raise ValueError(f"{name}: expected a number above 0, got {said[:32]!r}")
    return int(said)
