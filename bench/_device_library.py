"""Builds the kernels of `appliance/engine/fixed/cuda`: by nvcc for a GPU, or by g++ to be stepped through without one.

    python -m bench._device_library build/fixed_cuda.so [--emulated]
"""

from __future__ import annotations

import argparse
import subprocess
import tempfile
from pathlib import Path
from typing import Final

ENGINE: Final = Path(__file__).resolve().parent.parent / "appliance" / "engine"
SOURCE: Final = ENGINE / "fixed" / "cuda" / "fixed.cu"
BESIDE: Final = (ENGINE / "fixed" / "kernels" / "extras.c", ENGINE / "sampling" / "sampling.c")
PLAIN: Final = ("-O2", "-fPIC", "-ffp-contract=off", "-fvisibility=hidden", "-w")
NVCC: Final = ("nvcc", "-std=c++17", "-O3", "-fmad=false", "-arch=sm_90", "-Xcompiler", "-fPIC", "-cudart", "static")
# jumps between stacks are what fortified longjmp forbids
EMULATED: Final = ("g++", "-std=c++17", *PLAIN, "-mfma", "-U_FORTIFY_SOURCE", "-DANCHORHOLD_EMULATED", "-x", "c++")


def build(library: Path, *, emulated: bool = False) -> None:
    """Raises CalledProcessError, or FileNotFoundError where there is no such compiler."""
    library.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as scratch:
        objects = [f"{scratch}/{source.stem}.o" for source in BESIDE]
        for source, to in zip(BESIDE, objects, strict=True):
            subprocess.run(["gcc", "-std=c11", *PLAIN, "-c", str(source), "-o", to], check=True)
        command = [*EMULATED, str(SOURCE), "-x", "none"] if emulated else [*NVCC, str(SOURCE)]
        subprocess.run([*command, "-shared", *objects, "-o", str(library), "-lm"], check=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Build the fixed engine's kernels for a device.")
    parser.add_argument("library", type=Path, help="where to write the shared library")
    parser.add_argument("--emulated", action="store_true", help="for a processor, thread by thread: slow, for tests")
    arguments = parser.parse_args()
    build(arguments.library, emulated=arguments.emulated)
