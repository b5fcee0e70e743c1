"""How the kernels are compiled: which sources, with which flags, into which library.

    python -m appliance.engine.fixed.kernels_build LIBRARY              what the engine loads, for this processor
    python -m appliance.engine.fixed.kernels_build LIBRARY --cuda       for a GPU, by nvcc
    python -m appliance.engine.fixed.kernels_build LIBRARY --emulated   the same, to be stepped through on a processor

setup.py builds the library into the package, and an image is built with the file as a program, in a folder with the
sources alone: so this module imports nothing of ours. The engine does not import it, and no image contains it.

One shared library in C11, no header of Python's, so that one file serves every version. With `ziglang` (locked in
requirements/dev.txt) the compiler is part of the lock: the same bytes on any machine, for any glibc from 2.17. Without
it the system's `cc` is taken. The compiler changes no bit of an answer: the library is checked against a
digest whenever it is loaded.
"""

from __future__ import annotations

import argparse
import importlib.util
import platform
import subprocess
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parents[3]  # compilers run here, so no place is in what they are told
ENGINE: Final = Path("appliance/engine")
KERNELS: Final = ENGINE / "fixed/kernels"
EXTRAS: Final = KERNELS / "extras.c"
SAMPLING: Final = ENGINE / "sampling/sampling.c"
PLAIN: Final = (KERNELS / "scalar.c", KERNELS / "pool.c", KERNELS / "model.c", EXTRAS, KERNELS / "processor.c")
X86_ONLY: Final[dict[Path, tuple[str, list[str]]]] = {
    KERNELS / "avx2.c": ("v3", []),
    KERNELS / "avx512.c": ("v4", ["avx512bf16", "avx512vnni"]),
}
SAMPLING_FLAGS: Final = ["-fno-trapping-math"]  # nobody asks for traps, and without them loops become vectors
SAMPLING_LEVELS: Final = {"v3": ["-DAH_LEVEL=3"], "v4": ["-DAH_LEVEL=4", "-mprefer-vector-width=512"]}
FLAGS: Final = [
    "-std=c11",
    "-O3",
    "-fPIC",
    "-ffp-contract=off",
    "-fno-fast-math",
    "-fno-math-errno",
    "-fno-sanitize=undefined",
    "-fvisibility=hidden",
    "-g0",
]

DEVICE: Final = ENGINE / "fixed/cuda/fixed.cu"
NVCC: Final = ("nvcc", "-std=c++17", "-O3", "-fmad=false", "-arch=sm_90", "-Xcompiler", "-fPIC", "-cudart", "static")
BESIDE_DEVICE: Final = ("-O2", "-fPIC", "-ffp-contract=off", "-fvisibility=hidden", "-w")
# jumps between stacks are what fortified longjmp forbids
EMULATED: Final = (
    "g++", "-std=c++17", *BESIDE_DEVICE, "-mfma", "-U_FORTIFY_SOURCE", "-DANCHORHOLD_EMULATED", "-x", "c++"
)  # fmt: skip

Spelled = Callable[[str, Sequence[str]], list[str]]


def build(library: Path) -> None:
    """What the engine loads. Raises CalledProcessError, or FileNotFoundError where there is no compiler."""
    command, spelled = compiler()
    library = library.absolute()
    library.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as scratch:
        objects: list[str] = []
        for number, (source, flags) in enumerate(sources(spelled)):
            objects.append(f"{scratch}/{number}-{source.stem}.o")
            _run([*command, *FLAGS, *flags, "-c", str(source), "-o", objects[-1]])
        partial = library.with_suffix(".partial")
        _run([*command, "-shared", "-s", *objects, "-lpthread", "-lm", "-o", str(partial)])
        partial.replace(library)


def compiler() -> tuple[list[str], Spelled]:
    """The command, and how it is told a level of x86-64 and what a processor has beyond it."""
    found = importlib.util.find_spec("ziglang")
    if found is None or found.origin is None:
        return ["cc"], spelled_for_gcc
    target = f"{platform.machine()}-linux-gnu.2.17"
    zig = [str(Path(found.origin).with_name("zig")), "cc", "-target", target]
    return zig, lambda level, more: ["-mcpu=" + "+".join([f"x86_64_{level}", *more])]


def spelled_for_gcc(level: str, more: Sequence[str]) -> list[str]:
    return [f"-march=x86-64-{level}", *(f"-m{name}" for name in more)]


def sources(spelled: Spelled) -> list[tuple[Path, list[str]]]:
    """What is compiled, and how."""
    plain: list[tuple[Path, list[str]]] = [(source, []) for source in PLAIN]
    if platform.machine() != "x86_64":
        return [*plain, (SAMPLING, SAMPLING_FLAGS)]
    return [
        *plain,
        *((source, spelled(level, more)) for source, (level, more) in X86_ONLY.items()),
        *((SAMPLING, flags) for flags in sampling_levels(spelled)),
    ]


def sampling_levels(spelled: Spelled) -> list[list[str]]:
    """The flags of each level of x86-64 that sampling is compiled for, in one library that asks the processor."""
    return [
        [*SAMPLING_FLAGS, "-DAH_LEVELS"],
        *([*SAMPLING_FLAGS, *spelled(level, []), *flags] for level, flags in SAMPLING_LEVELS.items()),
    ]


def build_for_device(library: Path, *, emulated: bool = False) -> None:
    """By nvcc for a GPU, or by g++ to be stepped through without one: slow, for tests. Raises as `build` does."""
    library = library.absolute()
    library.parent.mkdir(parents=True, exist_ok=True)
    levels: list[list[str]] = [[]]
    if platform.machine() == "x86_64" and not emulated:  # beside a device, a token leaves little time for its choice
        levels = [["-O3", *flags] for flags in sampling_levels(spelled_for_gcc)]
    with tempfile.TemporaryDirectory() as scratch:
        objects: list[str] = []
        for source, flags in [(EXTRAS, []), *((SAMPLING, flags) for flags in levels)]:
            objects.append(f"{scratch}/{len(objects)}.o")
            _run(["gcc", "-std=c11", *BESIDE_DEVICE, *flags, "-c", str(source), "-o", objects[-1]])
        command = [*EMULATED, str(DEVICE), "-x", "none"] if emulated else [*NVCC, str(DEVICE)]
        _run([*command, "-shared", *objects, "-o", str(library), "-lm"])


def _run(command: Sequence[str]) -> None:
    subprocess.run(command, check=True, cwd=ROOT)


def main() -> None:
    parser = argparse.ArgumentParser(description="Compile the kernels of the fixed engine.")
    parser.add_argument("library", type=Path, help="where to write the shared library")
    kinds = parser.add_mutually_exclusive_group()
    kinds.add_argument("--cuda", action="store_true", help="for a GPU")
    kinds.add_argument("--emulated", action="store_true", help="those of a GPU for a processor, thread by thread: slow")
    arguments = parser.parse_args()
    if arguments.cuda or arguments.emulated:
        build_for_device(arguments.library, emulated=arguments.emulated)
    else:
        build(arguments.library)


if __name__ == "__main__":
    main()
