"""Copies of an image that differ in one thing."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from devnet.sealed_machine import World


def flipped(source: Path, out: Path, name: str, offset: int) -> Path:
    """A copy of an image with one bit of one file turned over. What is not changed is linked."""
    out.mkdir()
    for each in ("vmlinuz", "root.img", "cmdline"):
        if each != name:
            os.link(source / each, out / each)
    flip(source / name, out / name, offset)
    return out


def told(made: World, folder: Path, *words: str) -> Path:
    """A copy of the image whose kernel is told more: another table, another measurement."""
    other = flipped(made.image, folder / "told", "cmdline", 0)
    (other / "cmdline").write_text(" ".join([*words, (made.image / "cmdline").read_text()]))
    return other


def flip(source: Path, out: Path, offset: int) -> None:
    shutil.copyfile(source, out)
    with out.open("r+b") as file:
        file.seek(offset)
        byte = file.read(1)[0]
        file.seek(offset)
        file.write(bytes([byte ^ 1]))
