"""Builds the kernels of the `fixed` engine into the package; all else is in pyproject.toml.

One shared library in C11, no header of Python's, so that one file serves every version. With `ziglang` (locked in
requirements/dev.txt) the compiler is part of the lock: the same bytes on any machine, for any glibc from 2.17. Without
it the system's `cc` is taken. The compiler changes no bit of an answer: the library is checked against a
digest whenever it is loaded.
"""

from __future__ import annotations

import importlib.util
import platform
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.bdist_wheel import bdist_wheel
from setuptools.command.build_ext import build_ext

KERNELS = Path("appliance/engine/fixed/kernels")
PLAIN = [KERNELS / name for name in ("scalar.c", "pool.c", "model.c", "extras.c", "processor.c")]
SAMPLING = Path("appliance/engine/sampling/sampling.c")
X86_ONLY: dict[Path, tuple[str, list[str]]] = {
    KERNELS / "avx2.c": ("v3", []),
    KERNELS / "avx512.c": ("v4", ["avx512bf16", "avx512vnni"]),
}
SAMPLING_FLAGS = ["-fno-trapping-math"]  # nobody asks for traps, and without them loops become vectors
SAMPLING_LEVELS = {"v3": ["-DAH_LEVEL=3"], "v4": ["-DAH_LEVEL=4", "-mprefer-vector-width=512"]}
FLAGS = [
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


Spelled = Callable[[str, list[str]], list[str]]


def compiler() -> tuple[list[str], Spelled]:
    """The command, and how it is told a level of x86-64 and what a processor has beyond it."""
    found = importlib.util.find_spec("ziglang")
    if found is None or found.origin is None:
        return ["cc"], lambda level, more: [f"-march=x86-64-{level}", *(f"-m{name}" for name in more)]
    target = f"{platform.machine()}-linux-gnu.2.17"
    zig = [str(Path(found.origin).with_name("zig")), "cc", "-target", target]
    return zig, lambda level, more: ["-mcpu=" + "+".join([f"x86_64_{level}", *more])]


def sources(spelled: Spelled) -> list[tuple[Path, list[str]]]:
    """What is compiled, and how."""
    plain: list[tuple[Path, list[str]]] = [(source, []) for source in PLAIN]
    if platform.machine() != "x86_64":
        return [*plain, (SAMPLING, SAMPLING_FLAGS)]
    return [
        *plain,
        *((source, spelled(level, more)) for source, (level, more) in X86_ONLY.items()),
        (SAMPLING, [*SAMPLING_FLAGS, "-DAH_LEVELS"]),
        *((SAMPLING, [*SAMPLING_FLAGS, *spelled(level, []), *flags]) for level, flags in SAMPLING_LEVELS.items()),
    ]


def build(library: Path) -> None:
    command, spelled = compiler()
    library.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as scratch:
        objects = []
        for number, (source, flags) in enumerate(sources(spelled)):
            objects.append(f"{scratch}/{number}-{source.stem}.o")
            subprocess.run([*command, *FLAGS, *flags, "-c", str(source), "-o", objects[-1]], check=True)
        partial = library.with_suffix(".partial")
        subprocess.run([*command, "-shared", "-s", *objects, "-lpthread", "-lm", "-o", str(partial)], check=True)
        partial.replace(library)


class BuildKernels(build_ext):
    def get_ext_filename(self, fullname: str) -> str:
        return f"{fullname.replace('.', '/')}.so"

    def build_extension(self, ext: Extension) -> None:
        build(Path(self.get_ext_fullpath(ext.name)))


class AnyPython(bdist_wheel):
    """The library asks nothing of the interpreter: one wheel for a kind of machine."""

    def get_tag(self) -> tuple[str, str, str]:
        return "py3", "none", super().get_tag()[2]


if sys.platform == "linux":
    setup(
        ext_modules=[Extension("appliance.engine.fixed._kernels", [])],
        cmdclass={"build_ext": BuildKernels, "bdist_wheel": AnyPython},
    )
else:
    setup()
