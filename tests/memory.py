"""What lies in a process's memory, looked at from outside: for tests that a key is gone."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest

CHUNK = 1 << 24
MAY_LOOK = os.geteuid() == 0  # a sealed process is none to trace, save for root

needs_root = pytest.mark.skipif(not MAY_LOOK, reason="only root may read a sealed process's memory")


def holds(pid: int, needles: Iterable[bytes]) -> list[int]:
    """How often each of `needles` is found in the readable memory of that process."""
    wanted = list(needles)
    counts = [0] * len(wanted)
    overlap = max(map(len, wanted)) - 1
    for text in _stretches(pid, overlap):
        for at, needle in enumerate(wanted):
            counts[at] += text.count(needle)
    return counts


def _stretches(pid: int, overlap: int) -> Iterator[bytes]:
    with Path(f"/proc/{pid}/mem").open("rb", buffering=0) as memory:
        for line in Path(f"/proc/{pid}/maps").read_text().splitlines():
            span, mode, *_ = line.split()
            if not mode.startswith("r") or line.endswith(("[vvar]", "[vsyscall]", "[vvar_vclock]")):
                continue
            start, end = (int(part, 16) for part in span.split("-"))
            kept = b""
            for at in range(start, end, CHUNK):
                try:
                    memory.seek(at)
                    text = memory.read(min(CHUNK, end - at))
                except OSError:  # a page that goes away, or was never there
                    kept = b""
                    continue
                yield kept + text
                kept = text[-overlap:] if overlap else b""
