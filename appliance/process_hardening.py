"""What a process does to itself before it holds anything: nothing of its memory may outlive it in a file."""

from __future__ import annotations

import ctypes
import resource
from typing import Final

_PR_SET_DUMPABLE: Final = 4
_PR_SET_NO_NEW_PRIVS: Final = 38


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
