"""System calls that Python has no function for, for the two programs that start the machine."""

import _socket
import ctypes
import errno
import os
from typing import NoReturn

MS_RDONLY, MS_NOSUID, MS_NODEV, MS_NOEXEC, MS_REMOUNT, MS_MOVE = 1, 2, 4, 8, 32, 8192
POWER_OFF = 0x4321FEDC
FINIT_MODULE = 313  # x86-64
HOST_CID = 2
END_PORT = 5009  # the host's: where it may listen for how this machine ended
END_SECONDS_MAX = 1

_libc = ctypes.CDLL(None, use_errno=True)


def mount(what: str, where: str, kind: str | None, flags: int, data: str | None = None) -> None:
    _check(
        _libc.mount(
            what.encode(),
            where.encode(),
            None if kind is None else kind.encode(),
            ctypes.c_ulong(flags),
            None if data is None else data.encode(),
        ),
        where,
    )


def detach(where: str) -> None:
    """Unmount, now for everybody who looks, and for those who have it open when they close it."""
    _check(_libc.umount2(where.encode(), 2), where)


def load_module(path: str) -> None:
    """A driver may find that what it drives is not there: of the two for evidence, one always does."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        _check(_libc.syscall(FINIT_MODULE, descriptor, b"", 0), path)
    except OSError as reason:
        if reason.errno != errno.ENODEV:
            raise
    finally:
        os.close(descriptor)


def control_process(option: int, value: int) -> None:
    _check(_libc.prctl(option, value, 0, 0, 0), f"prctl {option}")


def say(words: str) -> None:
    """Into the kernel's log, which a release shows to nobody (image.md I14)."""
    try:
        with open("/dev/kmsg", "w", encoding="utf-8") as log:  # pathlib is not in the initrd
            log.write(f"<3>anchorhold: {words[:200]}\n")
    except OSError:
        pass  # without a log there is nobody to tell


def end(stage: str, code: int) -> NoReturn:
    """Tell the host one line, if it listens, and power off (image.md I20). What it answers is not looked at."""
    say(f"{stage} ended with {code}: power off")
    try:
        with _Line() as line:
            line.send(f"anchorhold end {stage} {code}\n".encode())
            line.recv(1)  # closed by the host once it has read: a machine that is off takes unsent bytes with it
    except OSError:
        pass
    _libc.reboot(ctypes.c_int(POWER_OFF))
    os._exit(1)  # the kernel panics when process 1 ends, and the machine restarts into its firmware


class _Line:
    def __enter__(self) -> "_socket.socket":
        self._socket = _socket.socket(_socket.AF_VSOCK, _socket.SOCK_STREAM)
        self._socket.settimeout(END_SECONDS_MAX)
        self._socket.connect((HOST_CID, END_PORT))
        return self._socket

    def __exit__(self, *reason: object) -> None:
        self._socket.close()


def _check(result: int, what: str) -> None:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), what)
