"""The cpio archive a kernel unpacks into its first file system ("newc"). The same files give the same bytes."""

from __future__ import annotations

import stat
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Final

from foundation.refusal import shown
from image_build.errors import ImageRefused

_MAGIC: Final = b"070701"
_END: Final = "TRAILER!!!"
_ALIGNMENT: Final = 512  # an archive may follow an archive


@dataclass(frozen=True, slots=True)
class File:
    content: bytes
    executable: bool = False


def write_tree(tree: Path, sink: BinaryIO) -> None:
    """Everything below `tree`."""
    _Writer(sink).write(_below(tree))


def write_files(files: Mapping[str, File], sink: BinaryIO) -> None:
    """These files, by their path without the leading slash, and the folders they need."""
    folders = {str(parent) for name in files for parent in Path(name).parents} - {"."}
    entries = dict.fromkeys(folders, (stat.S_IFDIR | 0o755, b""))
    entries |= {
        name: (stat.S_IFREG | (0o755 if file.executable else 0o644), file.content) for name, file in files.items()
    }
    _Writer(sink).write((name, *entries[name]) for name in sorted(entries))


def write_entries(entries: Iterable[tuple[str, int, bytes]], sink: BinaryIO) -> None:
    """Path, mode and content of each, in this order; the folders too, before what is in them."""
    _Writer(sink).write(iter(entries))


def read_entries(raw: bytes) -> Iterator[tuple[str, int, bytes]]:
    """Path, mode and content of each entry of one archive, as written here."""
    at = 0
    while True:
        head = raw[at : at + 110]
        if len(head) != 110 or not head.startswith(_MAGIC):
            raise ImageRefused("cpio.head", expected=f"an entry at byte {at}", got=shown(head[:6]))
        mode, size, label = (int(head[place : place + 8], 16) for place in (14, 54, 94))
        name = raw[at + 110 : at + 110 + label - 1].decode()
        body = at + 110 + label + -(110 + label) % 4
        if name == _END:
            return
        yield name, mode, raw[body : body + size]
        at = body + size + -size % 4


def _below(tree: Path) -> Iterator[tuple[str, int, bytes]]:
    for path in sorted(tree.rglob("*")):
        name = path.relative_to(tree).as_posix()
        if path.is_symlink():
            yield name, stat.S_IFLNK | 0o777, str(path.readlink()).encode()
        elif path.is_dir():
            yield name, stat.S_IFDIR | 0o755, b""
        else:
            yield name, stat.S_IFREG | (path.stat().st_mode & 0o755), path.read_bytes()


class _Writer:
    def __init__(self, sink: BinaryIO) -> None:
        self._sink = sink
        self._written = 0
        self._inode = 0

    def write(self, entries: Iterator[tuple[str, int, bytes]]) -> None:
        for name, mode, content in entries:
            self._entry(name, mode, content)
        self._entry(_END, 0, b"")
        self._align(_ALIGNMENT)

    def _entry(self, name: str, mode: int, content: bytes) -> None:
        self._inode += 1
        label = name.encode() + b"\0"
        fields = (self._inode, mode, 0, 0, 1, 0, len(content), 0, 0, 0, 0, len(label), 0)
        self._put(_MAGIC + b"".join(b"%08x" % field for field in fields) + label)
        self._align(4)
        self._put(content)
        self._align(4)

    def _put(self, raw: bytes) -> None:
        self._sink.write(raw)
        self._written += len(raw)

    def _align(self, to: int) -> None:
        self._put(bytes(-self._written % to))
