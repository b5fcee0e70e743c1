"""What the kernel is built of, and one digest of all of it."""

from __future__ import annotations

import hashlib
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

from image_build.errors import ImageRefused
from image_build.kernel.configuration import Options
from image_build.lock import Package, read_lock

FOLDER: Final = Path(__file__).parent
DECLARED: Final = FOLDER / "inputs.toml"
LOCK: Final = FOLDER / "lock.json"
CONFIGURATION: Final = FOLDER / "configuration"
PATCHES: Final = FOLDER / "patches"
RECIPE: Final = FOLDER / "recipe.sh"
SUITE: Final = "bookworm"
SOURCE, TOOLCHAIN = "source", "toolchain"


@dataclass(frozen=True, slots=True)
class Declared:
    name: str
    why: str
    tree: str

    @property
    def to_find(self) -> Package:
        """As a refresh of the lock looks for it."""
        return Package(self.name, SUITE, "", "", 0, "", (self.tree,))


def read_declared(path: Path = DECLARED) -> tuple[Declared, ...]:
    found = tuple(
        Declared(each["name"], each.get("why", ""), each.get("tree", TOOLCHAIN))
        for each in tomllib.loads(path.read_text())["package"]
    )
    for each in found:
        if not each.why:
            raise ImageRefused("kernel.why", expected=f"why {each.name} is there", got="nothing")
    return found


@dataclass(frozen=True, slots=True)
class Inputs:
    packages: tuple[Package, ...]
    configuration: bytes
    patches: dict[str, bytes]  # in the order of their names, which is the order in which they are applied
    recipe: bytes

    @classmethod
    def read(cls, folder: Path = FOLDER) -> Self:
        patches = {path.name: path.read_bytes() for path in sorted((folder / PATCHES.name).glob("*.patch"))}
        return cls(
            tuple(read_lock(folder / LOCK.name)),
            (folder / CONFIGURATION.name).read_bytes(),
            patches,
            (folder / RECIPE.name).read_bytes(),
        )

    @property
    def source(self) -> Package:
        return next(each for each in self.packages if each.trees == (SOURCE,))

    @property
    def toolchain(self) -> tuple[Package, ...]:
        return tuple(each for each in self.packages if each.trees == (TOOLCHAIN,))

    @property
    def options(self) -> Options:
        return Options.parse(self.configuration.decode())

    @property
    def digest(self) -> str:
        """Of all that has a part in the kernel; a reason beside an option has none (I27)."""
        parts = [each.sha256.encode() for each in self.packages]
        parts += [self.options.fragment.encode(), self.recipe]
        parts += [part for name, content in self.patches.items() for part in (name.encode(), content)]
        return hashlib.sha256(b"".join(hashlib.sha256(part).digest() for part in parts)).hexdigest()
