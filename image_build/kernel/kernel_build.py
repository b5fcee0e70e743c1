"""One build of the kernel: a tree, the recipe in it, and what comes of it looked at before anybody has it."""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from image_build.downloads import Told
from image_build.errors import ImageRefused
from image_build.kernel import toolchain_tree
from image_build.kernel.carried_configuration import configuration_of
from image_build.kernel.inputs import Inputs

TOLD_EVERY_SECONDS: Final = 10  # of progress, for people
_COMPILED: Final = ("  CC ", "  AS ")


@dataclass(frozen=True, slots=True)
class Built:
    image: bytes
    release: str
    objects: int  # compiled: of C and of assembler
    seconds: float


def build(inputs: Inputs, cache: Path, within: Path, tell: Told, *, expected_objects: int = 0) -> Built:
    """In a folder of its own below `within`, which needs 3 GB for it. Raises `ImageRefused`."""
    began = time.monotonic()
    work = Path(tempfile.mkdtemp(prefix=".building-", dir=within))
    try:
        tell("kernel: unpacking the compiler")
        toolchain_tree.lay(work / "tree", inputs, cache)
        objects = _run(work / "tree", tell, expected_objects)
        out = work / "tree/out"
        image, release = (out / "vmlinuz").read_bytes(), (out / "release").read_text().strip()
    finally:
        shutil.rmtree(work, ignore_errors=True)
    check(image, inputs)
    return Built(image, release, objects, time.monotonic() - began)


def check(image: bytes, inputs: Inputs) -> None:
    """I26: what the kernel carries is what every line asked for."""
    if departures := list(inputs.options.departures(configuration_of(image))):
        raise ImageRefused("kernel.configuration", expected="every line of it to take", got="; ".join(departures))


def _run(tree_folder: Path, tell: Told, expected_objects: int) -> int:
    objects, told = 0, time.monotonic()
    of = f" of {expected_objects}" if expected_objects else ""
    for line in toolchain_tree.run(tree_folder, os.cpu_count() or 1):
        if line.startswith("step: "):
            tell(f"kernel: {line.removeprefix('step: ')}")
        elif line.startswith(_COMPILED):
            objects += 1
        if time.monotonic() - told > TOLD_EVERY_SECONDS and objects:
            told = time.monotonic()
            tell(f"kernel: {objects}{of} objects compiled")
    return objects
