"""What is declared to go into the image: `contents.toml`, which people write, unlike `lock.json`."""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, Final, Self

from image_build.errors import ImageRefused

FOLDER: Final = Path(__file__).parent
CONTENTS: Final = FOLDER / "contents.toml"
LOCK: Final = FOLDER / "lock.json"
TREES: Final = frozenset({"root", "tools", "stub"})
COMPILER: Final = "compiler"


@dataclass(frozen=True, slots=True)
class Part:
    """A package or a wheel, why it is there, and which of its files."""

    name: str
    why: str
    keep: tuple[str, ...]
    drop: tuple[str, ...]
    suite: str = ""  # a wheel has none
    trees: tuple[str, ...] = ()  # a wheel that names none goes into the root

    def keeps(self, path: str) -> bool:
        if path.startswith("usr/share/doc/"):  # a licence stays with what it is for
            return path == f"usr/share/doc/{self.name}/copyright"
        return _matches(path, self.keep) and not _matches(path, self.drop)


@dataclass(frozen=True, slots=True)
class Compiled:
    """A library of our own, and what of ours asks for it."""

    file: str
    why: str
    needed_by: tuple[str, ...]
    built_by: str  # a program of the sources, with Python's own modules alone: it takes the library's path
    of: tuple[str, ...]  # patterns of the sources it compiles


@dataclass(frozen=True, slots=True)
class Contents:
    epoch: int
    packages: tuple[Part, ...]
    wheels: tuple[Part, ...]
    compiler: Part
    compiled: tuple[Compiled, ...]

    @classmethod
    def read(cls, path: Path = CONTENTS) -> Self:
        said = tomllib.loads(path.read_text())
        wheels = [_part(each, _wheel_fields) for each in said["wheel"]]
        return cls(
            said["epoch"],
            tuple(_part(each, _package_fields) for each in said["package"]),
            tuple(each for each in wheels if not each.trees),
            next(each for each in wheels if each.trees == (COMPILER,)),
            tuple(
                Compiled(each["file"], each["why"], tuple(each["needed_by"]), each["built_by"], tuple(each["of"]))
                for each in said["compiled"]
            ),
        )


def _package_fields(fields: Mapping[str, Any]) -> dict[str, Any]:
    trees = frozenset(fields["trees"])
    if not trees or not trees <= TREES:
        raise ImageRefused("contents.trees", expected=f"some of {sorted(TREES)}", got=sorted(trees))
    return {"suite": fields["suite"], "trees": tuple(fields["trees"]), "keep": tuple(fields["keep"])}


def _wheel_fields(fields: Mapping[str, Any]) -> dict[str, Any]:
    return {"keep": tuple(fields.get("keep", ("*",))), "trees": tuple(fields.get("trees", ()))}


def _part(fields: Mapping[str, Any], more: Callable[[Mapping[str, Any]], dict[str, Any]]) -> Part:
    """I2: nothing is there without a reason."""
    if not fields.get("why"):
        raise ImageRefused("contents.why", expected=f"why {fields.get('name')} is there", got="no reason")
    return Part(name=fields["name"], why=fields["why"], drop=tuple(fields.get("drop", ())), **more(fields))


def _matches(path: str, patterns: tuple[str, ...]) -> bool:
    return any(fnmatchcase(path, each) for each in patterns)
