"""Bytes at an offset, all of them; and files that are there whole or not at all."""

from __future__ import annotations

import os
import secrets
import shutil
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from foundation import private_files
from foundation.durability import sync_folder
from measurements.pack.errors import PackMalformed

SECTOR_BYTES: Final = 512


def read_at(descriptor: int, into: memoryview, offset: int) -> int:
    """Fills `into` from `offset`; returns how much there was before the file ended."""
    done = 0
    while done < len(into):
        count = os.preadv(descriptor, [into[done:]], offset + done)
        if not count:
            break
        done += count
    return done


def length_of(descriptor: int) -> tuple[int, int]:
    """How long it is, and by how much that may exceed what was put there: a disk has whole sectors."""
    size = os.lseek(descriptor, 0, os.SEEK_END)
    return size, SECTOR_BYTES - 1 if stat.S_ISBLK(os.fstat(descriptor).st_mode) else 0


def write_at(descriptor: int, data: memoryview, offset: int) -> None:
    done = 0
    while done < len(data):
        done += os.pwrite(descriptor, data[done:], offset + done)


@contextmanager
def whole_file(out: Path) -> Iterator[int]:
    """A descriptor to write to; `out` appears, complete and on disk, when the block ends well (pack.md P16)."""
    refuse_existing(out)
    part = _part(out)
    descriptor = os.open(part, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
    try:
        try:
            yield descriptor
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        refuse_existing(out)
        part.rename(out)
        sync_folder(out.parent)
    except BaseException:
        part.unlink(missing_ok=True)
        raise


@contextmanager
def whole_folder(out: Path) -> Iterator[Path]:
    """A folder to fill, of ours alone; `out` appears when the block ends well."""
    refuse_existing(out)
    part = _part(out)
    private_files.folder(part)
    try:
        yield part
        refuse_existing(out)
        part.rename(out)
    except BaseException:
        shutil.rmtree(part)
        raise


def refuse_existing(out: Path) -> None:
    if out.exists() or out.is_symlink():
        raise PackMalformed("pack.exists", expected=f"{out} not to be there yet", got="it is")


def _part(out: Path) -> Path:
    return out.with_name(f".{out.name}.{secrets.token_hex(8)}.part")
