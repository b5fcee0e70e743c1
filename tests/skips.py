"""Why a test may skip where everything is required (ANCHORHOLD_REQUIRE_ALL=1): only for what a machine cannot be given.

A package or a program that is missing is no such reason: `.ci/run` brings it.
"""

from __future__ import annotations

import re
from typing import Final

ALLOWED: Final = {
    r"no GPU here": "a graphics processor",
    r"no nvcc here": "NVIDIA's compiler, which no package index of ours has",
    r"this processor (has no [A-Z0-9_-]+|has them all|flushes nothing)": "an instruction set, or the lack of one",
    r"this kernel has no AF_VSOCK sockets": "a kernel with VSOCK",
    r"this machine has no /dev/fuse|a FUSE file system cannot be mounted here.*": "a kernel with FUSE",
    r"no tmpfs on \S+ here": "a tmpfs at a place of its own",
    r"cores of this machine do not go to the working folder .*": "a kernel that writes core dumps beside the program",
    r"only root can give a file away": "root",
    r"ray \(the bulk extra\) is not installed: bulk replay was not tried": "Ray, which no environment of ours locks",
}


def allowed(reason: str) -> bool:
    return any(re.fullmatch(pattern, reason) for pattern in ALLOWED)
