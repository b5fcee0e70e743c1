"""The lock: every input by name, version, size and digest, and where a mirror keeps it, below the mirror: no host.

A lock is written by a refresh and read by a build. That a package is any good is not established here.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path


class Missing(Exception):
    """Something that is needed cannot be had. The text says what, and what to do."""


@dataclass(frozen=True, slots=True)
class Package:
    """A Debian package."""

    name: str
    suite: str  # where a refresh looks for it
    version: str
    path: str  # below whatever mirror is used
    size: int
    sha256: str
    trees: tuple[str, ...]  # into which of our trees it is unpacked


@dataclass(frozen=True, slots=True)
class Wheel:
    """A Python distribution, built by somebody else, for one interpreter."""

    name: str
    version: str
    file: str
    size: int
    sha256: str


Locked = Package | Wheel


def read_lock(path: Path) -> list[Package]:
    """The packages of a lock that has packages alone."""
    return [_package(each) for each in json.loads(path.read_text())]


def write_lock(path: Path, packages: Sequence[Package]) -> None:
    path.write_text(json.dumps([asdict(each) for each in packages], indent=1) + "\n")


@dataclass(frozen=True, slots=True)
class ImageLock:
    """What `image_build/lock.json` says."""

    packages: tuple[Package, ...]
    wheels: tuple[Wheel, ...]

    @classmethod
    def read(cls, path: Path) -> ImageLock:
        read = json.loads(path.read_text())
        return cls(tuple(map(_package, read["packages"])), tuple(Wheel(**each) for each in read["wheels"]))

    def inputs(self) -> list[Locked]:
        return [*self.packages, *self.wheels]

    def write(self, path: Path) -> None:
        said = {
            name: [asdict(each) for each in part]
            for name, part in (("packages", self.packages), ("wheels", self.wheels))
        }
        path.write_text(json.dumps(said, indent=1) + "\n")


def _package(fields: dict[str, object]) -> Package:
    trees = fields["trees"]
    if not isinstance(trees, list):
        raise TypeError("trees: expected a list")
    return Package(**{**fields, "trees": tuple(trees)})  # type: ignore[arg-type]
