"""Files and folders for their owner alone: the one place where what holds secrets is made.

    write_new(path, raw)            # a file that must not be there yet
    replace(path, raw)              # a file that may be there
    descriptor = open_or_make(path) # to read and write; what was open to others no longer is
    database(path, create=True)     # before SQLite opens it
    folder(path)                    # and its parents, as any folder is made

A file has mode 0600 and a folder 0700, whatever the umask, and whoever may enter the folder that they lie in
(docs/spec/secrecy.md S14). No link is followed to a file.
"""

from __future__ import annotations

import errno
import os
import secrets
import stat
from pathlib import Path
from typing import Final

FILE_MODE: Final = 0o600
FOLDER_MODE: Final = 0o700

_BESIDE: Final = ("-wal", "-shm", "-journal")
_FLAGS: Final = os.O_CLOEXEC | os.O_NOFOLLOW


def make(path: str | Path, flags: int = os.O_WRONLY) -> int:
    """A descriptor of a new file. Raises `FileExistsError`."""
    return _owned(os.open(path, flags | os.O_CREAT | os.O_EXCL | _FLAGS, FILE_MODE))


def open_or_make(path: Path) -> int:
    return _owned(os.open(path, os.O_RDWR | os.O_CREAT | _FLAGS, FILE_MODE))


def write_new(path: Path, raw: bytes | memoryview) -> None:
    """Raises `FileExistsError`."""
    with os.fdopen(make(path), "wb") as file:
        file.write(raw)


def replace(path: Path, raw: bytes) -> None:
    """What was there before, whoever had it open, does not get the bytes: the name goes to another file."""
    part = path.with_name(f".{path.name}.{secrets.token_hex(8)}.part")
    try:
        write_new(part, raw)
        part.rename(path)
    finally:
        part.unlink(missing_ok=True)


def database(path: Path, *, create: bool) -> None:
    """SQLite gives what it lays beside a database the mode of the database. Raises `FileNotFoundError`."""
    for each in (path, *(path.with_name(path.name + end) for end in _BESIDE)):
        if each.exists() or (create and each is path):
            os.close(open_or_make(each))
        elif each is path:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(path))


def folder(path: Path) -> None:
    """One that is there keeps its mode, since it may be somebody's home: what lies in it does not depend on that."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.is_dir():
        return
    path.mkdir(mode=FOLDER_MODE)
    path.chmod(FOLDER_MODE)


def _owned(descriptor: int) -> int:
    """A umask may take from a new file's mode, and a file that was there may be open to others."""
    try:
        if stat.S_IMODE(os.fstat(descriptor).st_mode) != FILE_MODE:
            os.fchmod(descriptor, FILE_MODE)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor
