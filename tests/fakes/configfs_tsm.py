"""configfs-tsm without a TEE: the directory under `/sys/kernel/config/tsm/report`, as Linux 6.12 behaves.

`FakeTsm` is the model: item directories, visible attributes, write and read generations, a binary attribute
that is applied on release with its error thrown away, a text attribute that is applied by the write itself.
`DirectFiles` calls it in this process; `tests.fakes.fuse` mounts it, so that the real system calls reach it.

What is missing compared with the kernel: any memory of a quote that stays in flight after an interrupt,
unless a test says so through `faults`.
"""

from __future__ import annotations

import errno
import itertools
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

INBLOB_BYTES_MAX = 64
OUTBLOB_BYTES_MAX = 32 * 1024
PRIVLEVEL_MAX = 3

BINARY = {"inblob", "outblob", "auxblob"}
READABLE = {"outblob", "auxblob", "provider", "generation", "privlevel_floor"}
WRITABLE = {"inblob", "privlevel", "service_provider"}
VISIBLE = {
    "sev_guest": {"inblob", "outblob", "auxblob", "provider", "generation", "privlevel", "privlevel_floor"},
    "tdx_guest": {"inblob", "outblob", "provider", "generation"},
}
SVSM_ATTRIBUTES = {"service_provider"}

Signer = Callable[[bytes], tuple[bytes, bytes]]  # inblob -> (outblob, auxblob)


@dataclass
class Item:
    """One report directory."""

    inblob: bytes = b""
    privlevel: int = 0
    service: bytes = b""
    write_generation: int = 0
    read_generation: int = 0
    outblob: bytes | None = None
    auxblob: bytes = b""


@dataclass
class Handle:
    """One open file."""

    item: Item
    attribute: str
    writing: bool
    buffer: bytearray = field(default_factory=bytearray)
    filled: bool = False


@dataclass
class FakeTsm:
    """`faults` fails an operation each time it comes; `before` runs hooks ahead of it, one each time."""

    provider: str | None
    sign: Signer
    svsm: bool = False
    privlevel_floor: int = 0
    items: dict[str, Item] = field(default_factory=dict)
    faults: dict[tuple[str, str], int] = field(default_factory=dict)
    discarded: set[str] = field(default_factory=set)
    before: dict[tuple[str, str], list[Callable[[], None]]] = field(default_factory=dict)
    journal: list[tuple[str, str]] = field(default_factory=list)
    _handles: dict[int, Handle] = field(default_factory=dict)
    _numbers: itertools.count[int] = field(default_factory=lambda: itertools.count(1))

    def mkdir(self, name: str) -> None:
        self._arrive("mkdir", "")
        if self.provider is None:
            raise OSError(errno.ENXIO, "no provider")
        if name in self.items:
            raise OSError(errno.EEXIST, name)
        self.items[name] = Item()

    def rmdir(self, name: str) -> None:
        self._arrive("rmdir", "")
        if self.items.pop(name, None) is None:
            raise OSError(errno.ENOENT, name)

    def attributes(self) -> set[str]:
        visible = VISIBLE.get(self.provider or "", VISIBLE["sev_guest"])
        return visible | SVSM_ATTRIBUTES if self.svsm else visible

    def open(self, name: str, attribute: str, flags: int) -> int:
        self._arrive("open", attribute)
        if name not in self.items or attribute not in self.attributes():
            raise OSError(errno.ENOENT, attribute)
        writing = flags & os.O_ACCMODE != os.O_RDONLY
        if attribute not in (WRITABLE if writing else READABLE):
            raise OSError(errno.EACCES, attribute)
        number = next(self._numbers)
        self._handles[number] = Handle(self.items[name], attribute, writing)
        return number

    def read(self, number: int, offset: int, size: int) -> bytes:
        handle = self._handles[number]
        self._arrive("read", handle.attribute)
        if not handle.filled:
            handle.buffer[:] = self._show(handle.item, handle.attribute)
            handle.filled = True
        return bytes(handle.buffer[offset : offset + size])

    def write(self, number: int, offset: int, value: bytes) -> int:
        handle = self._handles[number]
        self._arrive("write", handle.attribute)
        if handle.attribute not in BINARY:
            self._store(handle.item, handle.attribute, bytes(value))
            return len(value)
        end = offset + len(value)
        if end > INBLOB_BYTES_MAX:
            raise OSError(errno.EFBIG, handle.attribute)
        handle.buffer.extend(bytes(max(0, end - len(handle.buffer))))
        handle.buffer[offset:end] = value
        handle.filled = True
        return len(value)

    def release(self, number: int) -> None:
        """Closing applies a binary write. Its error reaches nobody."""
        handle = self._handles.pop(number)
        if handle.writing and handle.attribute in BINARY and handle.filled:
            try:
                self._arrive("release", handle.attribute)
                self._store(handle.item, handle.attribute, bytes(handle.buffer))
            except OSError:
                return

    def intrude(self, report_data: bytes) -> None:
        """Another process writes into every directory there is."""
        for item in self.items.values():
            item.write_generation += 1
            item.inblob = report_data

    def _arrive(self, operation: str, attribute: str) -> None:
        self.journal.append((operation, attribute))
        hooks = self.before.get((operation, attribute))
        if hooks:
            hooks.pop(0)()
        if (operation, attribute) in self.faults:
            raise OSError(self.faults[operation, attribute], attribute)

    def _store(self, item: Item, attribute: str, value: bytes) -> None:
        if attribute in self.discarded:
            return
        if attribute == "privlevel":
            level = int(value)
            if not self.privlevel_floor <= level <= PRIVLEVEL_MAX:
                raise OSError(errno.EINVAL, attribute)
            item.privlevel = level
        elif attribute == "service_provider":
            if value.rstrip(b"\n") != b"svsm":
                raise OSError(errno.EINVAL, attribute)
            item.service = value
        else:
            item.inblob = value
        item.write_generation += 1

    def _show(self, item: Item, attribute: str) -> bytes:
        if attribute == "generation":
            return b"%d\n" % item.write_generation
        if attribute == "provider":
            return (self.provider or "").encode() + b"\n"
        if attribute == "privlevel_floor":
            return b"%d\n" % self.privlevel_floor
        self._generate(item)
        value = (item.outblob or b"") if attribute == "outblob" else item.auxblob
        if len(value) > OUTBLOB_BYTES_MAX:
            raise OSError(errno.EFBIG, attribute)
        return value

    def _generate(self, item: Item) -> None:
        """The slow path of a read: a new report, unless nothing was written since the last one."""
        if not item.inblob or (self.provider == "tdx_guest" and len(item.inblob) != INBLOB_BYTES_MAX):
            raise OSError(errno.EINVAL, "inblob")
        if item.outblob is not None and item.read_generation == item.write_generation:
            return
        item.outblob, item.auxblob = self.sign(item.inblob)
        item.read_generation = item.write_generation


@dataclass
class DirectFiles:
    """The four calls of `attestation.tee.configfs.Files`, without a kernel in between."""

    tsm: FakeTsm
    chunk_bytes: int = 4096

    def mkdir(self, path: Path) -> None:
        self.tsm.mkdir(path.name)

    def rmdir(self, path: Path) -> None:
        self.tsm.rmdir(path.name)

    def read(self, path: Path, bytes_max: int) -> bytes:
        number = self.tsm.open(path.parent.name, path.name, os.O_RDONLY)
        value = b""
        try:
            while len(value) <= bytes_max and (
                chunk := self.tsm.read(number, len(value), min(self.chunk_bytes, bytes_max + 1 - len(value)))
            ):
                value += chunk
        finally:
            self.tsm.release(number)
        return value

    def write(self, path: Path, value: bytes) -> None:
        number = self.tsm.open(path.parent.name, path.name, os.O_WRONLY)
        try:
            self.tsm.write(number, 0, value)
        finally:
            self.tsm.release(number)
