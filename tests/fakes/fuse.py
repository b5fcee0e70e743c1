"""The smallest FUSE server that can carry `FakeTsm`: the kernel protocol 7.31 and up, spoken over /dev/fuse.

Needs /dev/fuse and the right to mount; `available()` says whether a test can have it. One thread, first in
first out, no caching anywhere, so what the model says is what the next system call sees.
"""

from __future__ import annotations

import ctypes
import errno
import os
import stat
import struct
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from tests.fakes.configfs_tsm import WRITABLE, FakeTsm

LOOKUP, FORGET, GETATTR, SETATTR, MKDIR, RMDIR, OPEN, READ, WRITE = 1, 2, 3, 4, 9, 11, 14, 15, 16
RELEASE, FLUSH, INIT, OPENDIR, RELEASEDIR, INTERRUPT, DESTROY, BATCH_FORGET = 18, 25, 26, 27, 29, 36, 38, 42

ROOT = 1
DIRECT_IO = 1
HEADER = struct.Struct("<IIQQIIIHH")
REPLY = struct.Struct("<IiQ")
ATTRIBUTES = struct.Struct("<QQQQQQIIIIIIIIII")
READ_BYTES = 1 << 17
MS_NOSUID_NODEV = 6
MNT_DETACH = 2

_libc = ctypes.CDLL(None, use_errno=True)


def available() -> str | None:
    """Why this machine cannot mount; None if it can."""
    try:
        with mounted(FakeTsm("sev_guest", lambda _: (b"", b""))):
            return None
    except OSError as error:
        return f"a FUSE file system cannot be mounted here: {error.strerror}"


@contextmanager
def mounted(tsm: FakeTsm) -> Iterator[Path]:
    """`tsm` as a directory of this machine, for as long as the block runs."""
    with tempfile.TemporaryDirectory() as folder:
        device = os.open("/dev/fuse", os.O_RDWR | os.O_CLOEXEC)
        options = f"fd={device},rootmode=40000,user_id={os.getuid()},group_id={os.getgid()}".encode()
        if _libc.mount(b"tsm", os.fsencode(folder), b"fuse", MS_NOSUID_NODEV, options) != 0:
            code = ctypes.get_errno()
            os.close(device)
            raise OSError(code, os.strerror(code))
        server = threading.Thread(target=_Server(tsm, device).serve, name="fuse", daemon=True)
        server.start()
        try:
            yield Path(folder)
        finally:
            _libc.umount2(os.fsencode(folder), MNT_DETACH)
            server.join(timeout=10)
            os.close(device)


class _Server:
    def __init__(self, tsm: FakeTsm, device: int) -> None:
        self._tsm, self._device = tsm, device
        self._nodes: dict[int, tuple[str, ...]] = {ROOT: ()}
        self._ids: dict[tuple[str, ...], int] = {(): ROOT}

    def serve(self) -> None:
        while True:
            try:
                message = os.read(self._device, READ_BYTES + 4096)
            except OSError:  # unmounted
                return
            _, opcode, unique, node, *_ = HEADER.unpack_from(message)
            body = message[HEADER.size :]
            if opcode in (FORGET, BATCH_FORGET, INTERRUPT):
                continue
            try:
                answer, error = self._answer(opcode, node, body), 0
            except OSError as failure:
                answer, error = b"", -(failure.errno or errno.EIO)
            with suppress(OSError):  # the caller may have gone
                os.write(self._device, REPLY.pack(REPLY.size + len(answer), error, unique) + answer)
            if opcode == DESTROY:
                return

    def _answer(self, opcode: int, node: int, body: bytes) -> bytes:
        path = self._nodes.get(node, ())
        match opcode:
            case 26:  # INIT
                _, minor, readahead, _ = struct.unpack_from("<IIII", body)
                return struct.pack(
                    "<IIIIHHIIHHIII6I", 7, min(minor, 31), readahead, 0, 8, 8, READ_BYTES, 1, 32, 0, 0, 0, 0, *[0] * 6
                )[:64].ljust(64, b"\0")
            case 1:  # LOOKUP
                return self._entry((*path, _name(body)))
            case 3:  # GETATTR
                return struct.pack("<QII", 0, 0, 0) + self._attributes(path)
            case 9:  # MKDIR
                name = _name(body[8:])
                self._tsm.mkdir(name)
                return self._entry((name,))
            case 11:  # RMDIR
                self._tsm.rmdir(_name(body))
                return b""
            case 14:  # OPEN
                (flags,) = struct.unpack_from("<I", body)
                return struct.pack("<QIi", self._tsm.open(path[0], path[1], flags), DIRECT_IO, 0)
            case 15:  # READ
                handle, offset, size = struct.unpack_from("<QQI", body)
                return self._tsm.read(handle, offset, size)
            case 16:  # WRITE
                handle, offset, size = struct.unpack_from("<QQI", body)
                return struct.pack("<II", self._tsm.write(handle, offset, body[40 : 40 + size]), 0)
            case 18:  # RELEASE: the error of a deferred write ends here
                self._tsm.release(struct.unpack_from("<Q", body)[0])
                return b""
            case 25 | 29 | 38:  # FLUSH, RELEASEDIR, DESTROY
                return b""
            case 27:  # OPENDIR
                return struct.pack("<QIi", 0, 0, 0)
            case _:
                raise OSError(errno.ENOSYS, str(opcode))

    def _entry(self, path: tuple[str, ...]) -> bytes:
        attributes = self._attributes(path)
        node = self._ids.setdefault(path, len(self._ids) + 1)
        self._nodes[node] = path
        return struct.pack("<QQQQII", node, 0, 0, 0, 0, 0) + attributes

    def _attributes(self, path: tuple[str, ...]) -> bytes:
        """Raises ENOENT for what is not there now: nothing is cached."""
        if path and path[0] not in self._tsm.items:
            raise OSError(errno.ENOENT, path[0])
        if len(path) == 2 and path[1] not in self._tsm.attributes():
            raise OSError(errno.ENOENT, path[1])
        mode = stat.S_IFDIR | 0o755
        if len(path) == 2:
            mode = stat.S_IFREG | (0o200 if path[1] in WRITABLE else 0o444)
        node = self._ids.get(path, len(self._ids) + 1)
        return ATTRIBUTES.pack(node, 0, 0, 0, 0, 0, 0, 0, 0, mode, 1, os.getuid(), os.getgid(), 0, 4096, 0)


def _name(raw: bytes) -> str:
    return raw.split(b"\0", 1)[0].decode()
