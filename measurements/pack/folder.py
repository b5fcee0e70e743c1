"""A model folder, opened for sealing: every file known by name, checked, and held open until it is read.

What was checked is what is sealed: small files and tensor headers are kept as they were read, and a weights file that
changes while it is read is refused.
"""

from __future__ import annotations

import os
import stat
from bisect import bisect_right
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from measurements.pack.card import CARD_BYTES_MAX, Card, Claims
from measurements.pack.contents import measure
from measurements.pack.disk import read_at
from measurements.pack.errors import PackMalformed
from measurements.pack.files import CARD, SMALL_BYTES_MAX, Kind, check_names, kind_of, looks_like
from measurements.pack.pack_manifest import FILES_MAX, Manifest
from measurements.pack.safetensors import LENGTH_BYTES, SafetensorsHeader, header_bytes


@dataclass(frozen=True, slots=True)
class Source:
    """One file: `head` as it was checked, and the rest of it still on disk."""

    name: str
    descriptor: int
    size: int
    changed_ns: int
    head: bytes

    def read(self, into: memoryview, offset: int) -> None:
        """Fills `into` from `offset` of the file."""
        known = self.head[offset : offset + len(into)]
        into[: len(known)] = known
        rest = into[len(known) :]
        if read_at(self.descriptor, rest, offset + len(known)) != len(rest):
            self._refuse()

    def check_unchanged(self) -> None:
        about = os.fstat(self.descriptor)
        if (about.st_size, about.st_mtime_ns) != (self.size, self.changed_ns):
            self._refuse()

    def _refuse(self) -> None:
        raise PackMalformed("pack.changed", expected=f"{self.name} to stay as it is while it is sealed", got="a change")


@dataclass(frozen=True, slots=True)
class Folder:
    """The files of a model, placed."""

    manifest: Manifest
    card: Card
    sources: tuple[Source, ...]

    @classmethod
    @contextmanager
    def open(cls, path: Path, chunk_bytes: int) -> Iterator[Self]:
        """Raises `PackMalformed` for anything that a pack does not carry, and OSError."""
        with ExitStack() as held:
            folder = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            held.callback(os.close, folder)
            names = sorted(os.listdir(folder))  # noqa: PTH208  # of the folder in hand, not of its path
            _check_listing(names)
            claims = Claims.parse(_opened(folder, CARD, held, CARD_BYTES_MAX).head)
            names.remove(CARD)
            sources = tuple(_source(folder, name, held) for name in names)
            weights = {
                source.name: SafetensorsHeader.parse(source.head, source.size, what=source.name)
                for source in sources
                if kind_of(source.name) is Kind.WEIGHTS
            }
            measured = measure({s.name: s.head for s in sources if s.name not in weights}, weights)
            placed = ((s.name, s.size, len(s.head) if s.name in weights else 0) for s in sources)
            yield cls(Manifest.lay_out(placed, chunk_bytes), Card(claims, measured), sources)

    def read(self, into: memoryview, offset: int) -> None:
        """Fills `into` with the stream from `offset`; zero bytes between files."""
        files, end = self.manifest.files, offset + len(into)
        if self._has_gap(offset, end):
            into[:] = bytes(len(into))
        number = max(0, bisect_right([file.offset for file in files], offset) - 1)
        while number < len(files) and files[number].offset < end:
            file = files[number]
            begin, stop = max(offset, file.offset), min(end, file.end)
            if begin < stop:
                self.sources[number].read(into[begin - offset : stop - offset], begin - file.offset)
            number += 1

    def check_unchanged(self) -> None:
        for source in self.sources:
            source.check_unchanged()

    def _has_gap(self, begin: int, end: int) -> bool:
        return not any(file.offset <= begin and end <= file.end for file in self.manifest.files)


def _check_listing(names: list[str]) -> None:
    if len(names) > FILES_MAX:
        raise PackMalformed("pack.files", expected=f"at most {FILES_MAX} files", got=len(names))
    if CARD not in names:
        raise PackMalformed("pack.missing", expected=CARD, got="none", hint="docs/spec/pack.md P8 says what it holds")
    check_names([name for name in names if name != CARD])


def _source(folder: int, name: str, held: ExitStack) -> Source:
    weights = kind_of(name) is Kind.WEIGHTS
    return _opened(folder, name, held, None if weights else SMALL_BYTES_MAX)


def _opened(folder: int, name: str, held: ExitStack, bytes_max: int | None) -> Source:
    """The file, and its head: all of it up to `bytes_max`, or the header of a weights file."""
    try:
        descriptor = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=folder)
    except OSError as reason:
        if os.path.islink(f"/proc/self/fd/{folder}/{name}"):  # noqa: PTH114  # relative to the folder in hand
            raise PackMalformed(
                "pack.link", expected=f"{name} to be a file", got="a link", hint="copy the folder with cp -L first"
            ) from None
        raise OSError(reason.errno, reason.strerror, name) from None
    held.callback(os.close, descriptor)
    about = os.fstat(descriptor)
    if not stat.S_ISREG(about.st_mode) or not about.st_size:
        raise PackMalformed(
            "pack.file",
            expected=f"{name} to be a regular file, not empty",
            got=f"mode {about.st_mode:#o} and {about.st_size} bytes",
        )
    if bytes_max is not None and about.st_size > bytes_max:
        raise PackMalformed("pack.size", expected=f"{name} of at most {bytes_max} bytes", got=f"{about.st_size} bytes")
    size = about.st_size if bytes_max is not None else _head_bytes(descriptor, name, about.st_size)
    return Source(name, descriptor, about.st_size, about.st_mtime_ns, _read(descriptor, name, size))


def _head_bytes(descriptor: int, name: str, size: int) -> int:
    start = _read(descriptor, name, min(size, 512))
    # The length of a header can begin like pickle does; a brace behind it cannot.
    if start[LENGTH_BYTES : LENGTH_BYTES + 1] != b"{" and (seems := looks_like(start)) is not None:
        raise PackMalformed("pack.content", expected=f"{name} to be safetensors", got=seems)
    return LENGTH_BYTES + header_bytes(start[:LENGTH_BYTES], size, what=name)


def _read(descriptor: int, name: str, size: int) -> bytes:
    into = bytearray(size)
    if read_at(descriptor, memoryview(into), 0) != size:
        raise PackMalformed("pack.changed", expected=f"{size} bytes in {name}", got="the end of the file before that")
    return bytes(into)
