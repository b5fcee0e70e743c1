"""Builds the kernels of the `fixed` engine into the package; all else is in pyproject.toml."""

from __future__ import annotations

import runpy
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Final

from setuptools import Extension, setup
from setuptools.command.bdist_wheel import bdist_wheel
from setuptools.command.build_ext import build_ext

# By its path: where a wheel is built, nothing of ours can be imported.
BUILD: Final = Path(__file__).resolve().with_name("appliance") / "engine/fixed/kernels_build.py"


class BuildKernels(build_ext):
    def get_ext_filename(self, fullname: str) -> str:
        return f"{fullname.replace('.', '/')}.so"

    def build_extension(self, ext: Extension) -> None:
        build: Callable[[Path], None] = runpy.run_path(str(BUILD))["build"]
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
