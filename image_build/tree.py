"""A file system in memory, before it becomes one: every path with its owner, so that nothing is there that nobody put.

Parent directories are implied. Owner, group and time are the same for all and are not kept.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum, unique
from pathlib import Path, PurePosixPath
from typing import Final

from image_build.errors import ImageRefused

OURS: Final = "anchorhold"  # the owner of what no package brings


@unique
class Kind(Enum):
    FILE = "file"
    LINK = "link"
    FOLDER = "folder"


@dataclass(frozen=True, slots=True)
class Entry:
    kind: Kind
    content: bytes  # of a link: where it leads
    owner: str  # the package it is from
    executable: bool = False

    @property
    def mode(self) -> int:
        match self.kind:
            case Kind.LINK:
                return 0o777
            case Kind.FOLDER:
                return 0o755
            case Kind.FILE:
                return 0o755 if self.executable else 0o644


class Tree:
    def __init__(self) -> None:
        self._entries: dict[str, Entry] = {}

    def put(self, path: str, entry: Entry) -> None:
        """Twice the same is let pass; two different files for one path are not."""
        parts = PurePosixPath(path).parts
        if not parts or path.startswith("/") or ".." in parts:
            raise ImageRefused("tree.path", expected="a path below the root", got=repr(path))
        if self._entries.setdefault(path, entry) != entry:
            raise ImageRefused("tree.twice", expected=f"one {path}", got=f"{self._entries[path].owner}, {entry.owner}")

    def file(self, path: str, content: bytes, owner: str = OURS, *, executable: bool = False) -> None:
        self.put(path, Entry(Kind.FILE, content, owner, executable))

    def link(self, path: str, to: str, owner: str = OURS) -> None:
        self.put(path, Entry(Kind.LINK, to.encode(), owner))

    def folder(self, path: str, owner: str = OURS) -> None:
        """An empty one: something is mounted there."""
        self.put(path, Entry(Kind.FOLDER, b"", owner))

    def __contains__(self, path: str) -> bool:
        return path in self._entries

    def __getitem__(self, path: str) -> Entry:
        return self._entries[path]

    def __len__(self) -> int:
        return len(self._entries)

    def entries(self) -> Iterator[tuple[str, Entry]]:
        """In the order of their names."""
        for path in sorted(self._entries):
            yield path, self._entries[path]

    def files(self) -> Iterator[tuple[str, Entry]]:
        return ((path, entry) for path, entry in self.entries() if entry.kind is Kind.FILE)

    def folders(self) -> set[str]:
        """Every folder that is there because something is in it, or by itself."""
        above = {str(parent) for path in self._entries for parent in PurePosixPath(path).parents} - {"."}
        return above | {path for path, entry in self._entries.items() if entry.kind is Kind.FOLDER}

    def write(self, top: Path, epoch: int) -> None:
        """Below `top`, a folder that is there and empty, whatever the umask."""
        folders = sorted(self.folders())
        for each in folders:
            (top / each).mkdir()
        for path, entry in self.entries():
            target = top / path
            if entry.kind is Kind.FILE:
                target.write_bytes(entry.content)
                target.chmod(entry.mode)
            elif entry.kind is Kind.LINK:
                target.symlink_to(entry.content.decode())
            os.utime(target, (epoch, epoch), follow_symlinks=False)
        for each in (*reversed(folders), "."):
            (top / each).chmod(0o755)
            os.utime(top / each, (epoch, epoch))
