#!/usr/bin/env python3
"""Complete one lock with another: every package of SECOND that FIRST does not name is added to FIRST, hashes included.

    requirements/join.py FIRST SECOND

Where both name a package, FIRST's version stands: vLLM wants other releases of some than the rest of the project does,
and no resolver can give both. A lock made whole like this is installed with `pip install --no-deps --require-hashes`.
Nothing is asked of an index, so no package gets in that neither lock has.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Final

_NAME: Final = re.compile(r"([A-Za-z0-9][A-Za-z0-9._-]*)==[^\s\\]+ \\")
_NORMAL: Final = re.compile(r"[-_.]+")


class LockRefused(ValueError):
    """Text that is no lock of pins with hashes."""


def entries(lock: str) -> dict[str, str]:
    """Every pinned package by its normalised name, with its hashes and comments. What stands apart at the end, where
    pip-compile says what it left out, is none. Raises `LockRefused`."""
    found: dict[str, list[str]] = {}
    lines: list[str] | None = None
    for line in lock.splitlines():
        if not line:
            lines = None
        elif (pin := _NAME.fullmatch(line)) is not None:
            name = _NORMAL.sub("-", pin[1]).lower()
            if name in found:
                raise LockRefused(f"lock: expected each package once, got {name} twice")
            lines = found[name] = [line]
        elif line.startswith("    ") and lines is not None:
            lines.append(line)
        elif not line.startswith("#"):
            raise LockRefused(f"lock: expected name==version with hashes, got {line[:80]!r}")
    for name, entry in found.items():
        if not any(line.lstrip().startswith("--hash=sha256:") for line in entry):
            raise LockRefused(f"lock: expected hashes of {name}, got none")
    return {name: "\n".join(entry) + "\n" for name, entry in found.items()}


def joined(first: str, second: str) -> str:
    """Both locks as one, sorted by name. The same again if it is joined again."""
    return "".join(entry for _, entry in sorted({**entries(second), **entries(first)}.items()))


def main() -> None:
    first, second = map(Path, sys.argv[1:])
    first.write_text(joined(first.read_text("utf-8"), second.read_text("utf-8")), encoding="utf-8")


if __name__ == "__main__":
    main()
