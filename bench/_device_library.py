"""Builds the kernels of `appliance/engine/fixed/cuda`: by nvcc for a GPU, or by g++ to be stepped through without one.

python -m bench._device_library build/fixed_cuda.so [--emulated]
"""

from __future__ import annotations

import argparse
import platform
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Final

ENGINE: Final = Path(__file__).resolve().parent.parent / "appliance" / "engine"
SOURCE: Final = ENGINE / "fixed" / "cuda" / "fixed.cu"
EXTRAS: Final = ENGINE / "fixed" / "kernels" / "extras.c"
SAMPLING: Final = ENGINE / "sampling" / "sampling.c"
FAST: Final = ("-O3", "-fno-trapping-math")
LEVELS: Final = (  # as setup.py has them: beside a device, a token leaves little time for its choice
    (*FAST, "-DAH_LEVELS"),
    (*FAST, "-DAH_LEVEL=3", "-march=x86-64-v3"),
    (*FAST, "-DAH_LEVEL=4", "-march=x86-64-v4", "-mprefer-vector-width=512"),
)
PLAIN: Final = ("-O2", "-fPIC", "-ffp-contract=off", "-fvisibility=hidden", "-w")
NVCC: Final = ("nvcc", "-std=c++17", "-O3", "-fmad=false", "-arch=sm_90", "-Xcompiler", "-fPIC", "-cudart", "static")
# jumps between stacks are what fortified longjmp forbids
EMULATED: Final = ("g++", "-std=c++17", *PLAIN, "-mfma", "-U_FORTIFY_SOURCE", "-DANCHORHOLD_EMULATED", "-x", "c++")


def build(library: Path, *, emulated: bool = False) -> None:
    """Raises CalledProcessError, or FileNotFoundError where there is no such compiler."""
    library.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as scratch:
        levels: Sequence[Sequence[str]] = LEVELS if platform.machine() == "x86_64" and not emulated else ((),)
        objects: list[str] = []
        for source, flags in [(EXTRAS, ()), *((SAMPLING, flags) for flags in levels)]:
            objects.append(f"{scratch}/{len(objects)}.o")
            subprocess.run(["gcc", "-std=c11", *PLAIN, *flags, "-c", str(source), "-o", objects[-1]], check=True)
        command = [*EMULATED, str(SOURCE), "-x", "none"] if emulated else [*NVCC, str(SOURCE)]
        subprocess.run([*command, "-shared", *objects, "-o", str(library), "-lm"], check=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Build the fixed engine's kernels for a device.")
    parser.add_argument("library", type=Path, help="where to write the shared library")
    parser.add_argument("--emulated", action="store_true", help="for a processor, thread by thread: slow, for tests")
    arguments = parser.parse_args()
    build(arguments.library, emulated=arguments.emulated)
