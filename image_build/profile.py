"""A profile: what a release and a development image differ in, declared as files and nowhere decided in code."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

from image_build.closure import Closure, closure
from image_build.contents import FOLDER
from image_build.errors import ImageRefused
from image_build.tree import Tree

PROFILES: Final = FOLDER / "profiles"
COMMON_FILES: Final = FOLDER / "files"
CONFIG: Final = "etc/anchorhold/cell.toml"
MACHINE: Final = "etc/anchorhold/machine.toml"


def profile_names() -> list[str]:
    return sorted(path.parent.name for path in PROFILES.glob("*/profile.toml"))


@dataclass(frozen=True, slots=True)
class Profile:
    name: str
    about: str
    programs: tuple[str, ...]
    without: tuple[str, ...]  # modules they import in some case that is not an image's
    command_line: tuple[str, ...]
    waived: dict[str, str]  # rules that this profile is not held to, and why

    @classmethod
    def read(cls, name: str) -> Self:
        if name not in profile_names():
            raise ImageRefused("profile", expected=f"one of {', '.join(profile_names())}", got=name)
        said = tomllib.loads((PROFILES / name / "profile.toml").read_text())
        return cls(
            name,
            said["about"],
            tuple(said["programs"]),
            tuple(said["without"]),
            tuple(said["command_line"]),
            said["waived"],
        )

    def ours(self, sources: Path) -> Closure:
        """The files of this project that go into the image."""
        return closure(sources, self.programs, self.without)

    def lay(self, tree: Tree, config: bytes | None) -> None:
        """The declared files, common ones and its own; `config` in the place of its measured configuration."""
        for folder in (COMMON_FILES, PROFILES / self.name / "files"):
            for path in sorted(folder.rglob("*")):
                where = path.relative_to(folder).as_posix()
                if path.is_file():
                    given = config if where == CONFIG else None
                    tree.file(where, path.read_bytes() if given is None else given)
