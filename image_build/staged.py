"""The root while it is being made: a folder, and programs of it that run where it is, through its own loader.

The image's own interpreter compiles the image's byte code, so whatever runs the build has no say in it.
"""

from __future__ import annotations

import subprocess
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from image_build.errors import ImageRefused
from image_build.tree import Kind, Tree

LIBRARIES: Final = "usr/lib/x86_64-linux-gnu"
LOADER: Final = f"{LIBRARIES}/ld-linux-x86-64.so.2"
PYTHON: Final = "usr/bin/python3.11"
STANDARD_LIBRARY: Final = "usr/lib/python3.11"
CACHE_TAG: Final = "cpython-311"


def through_loader(top: Path, program: str) -> list[str]:
    """How to start a program of `top` with the libraries of `top`."""
    return [str(top / LOADER), "--library-path", str(top / LIBRARIES), "--argv0", program, str(top / program)]


@dataclass(frozen=True, slots=True)
class Staged:
    top: Path

    def python(self, arguments: Sequence[str]) -> str:
        told = subprocess.run(
            [*through_loader(self.top, PYTHON), *arguments],
            check=False,
            capture_output=True,
            text=True,
            env={"PYTHONHOME": str(self.top / "usr"), "PYTHONHASHSEED": "0", "LC_ALL": "C.UTF-8"},
            cwd=self.top,
        )
        if told.returncode != 0:
            raise ImageRefused("staged.python", expected="the image's interpreter to do it", got=told.stderr[-400:])
        return told.stdout

    def compile_into(self, tree: Tree, folders: Iterable[str]) -> None:
        """Byte code beside every module, of its owner. Unchecked hashes: no time enters, and no start checks them."""
        self.python(
            [
                "-ISB",
                "-m",
                "compileall",
                "-q",
                "-j",
                "1",
                "-s",
                str(self.top),
                "-p",
                "/",
                "--invalidation-mode",
                "unchecked-hash",
                *(str(self.top / each) for each in folders),
            ]
        )
        for path, entry in list(tree.entries()):
            if entry.kind is Kind.FILE and path.endswith(".py"):
                folder, _, name = path.rpartition("/")
                compiled = f"{folder}/__pycache__/{name.removesuffix('.py')}.{CACHE_TAG}.pyc"
                if (self.top / compiled).is_file():
                    tree.file(compiled, (self.top / compiled).read_bytes(), entry.owner)

    def try_imports(self, site: str, modules: Iterable[str]) -> None:
        """Nothing that our own modules need was left out: each can be imported where it will run."""
        self.python(["-ISB", "-c", _TRIED, str(self.top / site), *modules])


_TRIED: Final = """
import importlib, sys
sys.path.append(sys.argv[1])
for name in sys.argv[2:]:
    importlib.import_module(name)
"""
