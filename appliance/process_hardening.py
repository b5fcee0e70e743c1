"""Hardens a process before it holds secrets: no part of its memory may be written to a file."""

from __future__ import annotations

import ctypes
import os
import resource
from typing import Final, TextIO

_PR_SET_DUMPABLE: Final = 4
_PR_SET_NO_NEW_PRIVS: Final = 38


_OUTPUT: Final = (1, 2)


class SealingFailed(OSError):
    """The kernel would not. The cell does not start."""


def seal_process() -> None:
    """No core dump, no tracer without privileges, no new privileges (docs/spec/secrecy.md S9).

    What this process starts inherits the bound on core dumps and the lack of privileges, not that it is no
    process to dump: `exec` undoes that. The cell starts nothing.
    """
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    libc = ctypes.CDLL(None, use_errno=True)
    for option, value in ((_PR_SET_DUMPABLE, 0), (_PR_SET_NO_NEW_PRIVS, 1)):
        if libc.prctl(option, value, 0, 0, 0) != 0:
            raise SealingFailed(ctypes.get_errno(), f"prctl {option}: expected it to be granted")


def take_output() -> TextIO:
    """Standard error for our own log lines alone: what else this process writes there, or on standard output, is lost.

    A library's native code writes to both by itself; a failure in Rust quotes the text it failed over (secrecy.md S16).
    """
    kept = os.dup(2)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for descriptor in _OUTPUT:
        os.dup2(nowhere, descriptor)
    os.close(nowhere)
    return os.fdopen(kept, "w", encoding="utf-8", errors="backslashreplace", buffering=1)
