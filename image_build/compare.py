"""Two images side by side: whether they are the same bytes, and where they first are not.

First the files of the image, in the order in which one comes from the other; within the root the first path that
differs, then the first byte.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Final

from image_build.image_manifest import ARTEFACTS, Manifest

_PIECE: Final = 1 << 20
_HOLDS: Final = {"root.img": "root"}


@dataclass(frozen=True, slots=True)
class Difference:
    file: str
    at: int  # the first byte that differs; the length of the shorter, if that is all
    inside: str | None = None  # the first path in it that differs

    def __str__(self) -> str:
        within = f", by {self.inside}" if self.inside else ""
        return f"{self.file} differs first at byte {self.at}{within}"


def first_difference(one: Path, other: Path) -> Difference | None:
    for name in ("vmlinuz", "root.img", "cmdline", "image.efi", "contents.json", "manifest.json"):
        if (at := _first_byte(one / name, other / name)) is not None:
            inside = _first_path(one, other, _HOLDS[name]) if name in _HOLDS else None
            return Difference(name, at, inside)
    return None


def _first_byte(one: Path, other: Path) -> int | None:
    at = 0
    with one.open("rb") as left, other.open("rb") as right:
        while True:
            a, b = left.read(_PIECE), right.read(_PIECE)
            if a != b:
                length = min(len(a), len(b))
                return at + next((n for n in range(length) if a[n] != b[n]), length)
            if not a:
                return None
            at += len(a)


def _first_path(one: Path, other: Path, tree: str) -> str | None:
    left, right = (Manifest.read(folder).contents[tree] for folder in (one, other))
    return next((path for path in sorted({*chain(left, right)}) if left.get(path) != right.get(path)), None)


def is_image(folder: Path) -> bool:
    return all((folder / name).is_file() for name in (*ARTEFACTS, "manifest.json", "contents.json"))
