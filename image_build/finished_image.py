"""A finished image, taken apart again: what is looked at afterwards is what was written, and not what was meant.

The root is taken out of its file system by fsck.erofs, and of the kernel its configuration is read. Meant for an image
of one's own: a file system made to harm whoever unpacks it is not what this is for.
"""

from __future__ import annotations

import stat
import subprocess
import tempfile
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from image_build.build import unpack_tools
from image_build.contents import LOCK, Contents
from image_build.errors import ImageRefused
from image_build.image_manifest import ARTEFACTS, Manifest
from image_build.kernel.carried_configuration import configuration_of
from image_build.lock import ImageLock
from image_build.profile import MACHINE
from image_build.staged import through_loader


@dataclass(frozen=True, slots=True)
class Found:
    """What is at a path."""

    mode: int  # with the kind of file, as stat(2) has it
    content: bytes  # of a link: where it leads

    @property
    def is_file(self) -> bool:
        return stat.S_ISREG(self.mode)

    @property
    def is_folder(self) -> bool:
        return stat.S_ISDIR(self.mode)


@dataclass(frozen=True, slots=True)
class Image:
    """An image and all that is in it."""

    manifest: Manifest
    files: Mapping[str, bytes]  # the artefacts, by name
    root: Mapping[str, Found]
    kernel: Mapping[str, str]  # the configuration that the kernel carries

    @classmethod
    def read(cls, folder: Path, cache: Path) -> Self:
        files = {name: (folder / name).read_bytes() for name in ARTEFACTS}
        return cls(
            Manifest.read(folder), files, _unpacked(folder / "root.img", cache), configuration_of(files["vmlinuz"])
        )

    @property
    def line(self) -> str:
        return self.files["cmdline"].decode()

    @property
    def told(self) -> list[str]:
        """The words of the command line before those of the root and of the first program."""
        return self.line.partition("dm-mod.create=")[0].split()

    @property
    def machine(self) -> dict[str, Any]:
        return tomllib.loads(self.root[MACHINE].content.decode())


def _unpacked(image: Path, cache: Path) -> dict[str, Found]:
    with tempfile.TemporaryDirectory() as folder:
        tools = unpack_tools(Contents.read(), ImageLock.read(LOCK), cache, Path(folder) / "tools")
        top = Path(folder) / "root"
        told = subprocess.run(
            [*through_loader(tools, "usr/bin/fsck.erofs"), f"--extract={top}", "--preserve-perms", str(image)],
            check=False,
            capture_output=True,
            text=True,
            env={"LC_ALL": "C"},
        )
        if told.returncode != 0:
            raise ImageRefused("reading.root", expected="fsck.erofs to take it apart", got=told.stderr[-400:])
        return {path.relative_to(top).as_posix(): _found(path) for path in sorted(top.rglob("*"))}


def _found(path: Path) -> Found:
    mode = path.lstat().st_mode
    if stat.S_ISLNK(mode):
        return Found(mode, str(path.readlink()).encode())
    return Found(mode, path.read_bytes() if stat.S_ISREG(mode) else b"")
