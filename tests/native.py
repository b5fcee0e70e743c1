"""Compile the repository's C the way a test wants it, with whatever compiler is here."""

from __future__ import annotations

import ctypes
import shutil
import subprocess
from pathlib import Path
from typing import Final

import pytest

SAMPLING: Final = Path(__file__).resolve().parents[1] / "appliance" / "engine" / "sampling" / "sampling.c"
FLAGS: Final = ("-std=c11", "-Wall", "-Wextra", "-Werror", "-ffp-contract=off", "-fPIC", "-shared")
# each level of the code by itself; as they are shipped, they are in one library and the processor is asked
BUILDS: Final = {
    "unoptimised": ("-O0",),
    "baseline": ("-O3", "-march=x86-64"),
    "avx2": ("-O3", "-march=x86-64-v3", "-fno-trapping-math"),
    "avx512": ("-O3", "-march=x86-64-v4", "-fno-trapping-math", "-mprefer-vector-width=512"),
}
NEEDS: Final = {"avx2": {"avx2"}, "avx512": {"avx512f", "avx512bw", "avx512cd", "avx512dq", "avx512vl"}}


def compiler() -> str:
    found = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    if found is None:
        pytest.skip("no C compiler is here")
    return found


def compiled(source: Path, folder: Path, *flags: str) -> ctypes.CDLL:
    library = folder / f"{source.stem}.so"
    subprocess.run([compiler(), *FLAGS, *flags, f"-I{SAMPLING.parent}", str(source), "-o", str(library)], check=True)
    return ctypes.CDLL(str(library))


def can_run(build: str) -> bool:
    return NEEDS.get(build, set()) <= set(Path("/proc/cpuinfo").read_text("utf-8").split())
