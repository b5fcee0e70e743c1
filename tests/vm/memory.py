"""A guest's memory as its host sees it: the file behind it, without asking the guest or the emulator."""

from __future__ import annotations

import mmap
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Self

from tests.vm.tables import is_table


class GuestMemory:
    """Of a machine whose memory is a memfd, as every emulated plan has it."""

    def __init__(self, emulator: int) -> None:
        for path in Path(f"/proc/{emulator}/fd").iterdir():
            if "memfd:memory-backend" in str(path.readlink()):
                descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
                break
        else:
            raise LookupError("the emulator has no memory of a kind that can be looked at")
        try:
            self._all = mmap.mmap(descriptor, 0)
        finally:
            os.close(descriptor)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *reason: object) -> None:
        self._all.close()

    def read(self, at: int, count: int) -> bytes:
        return self._all[at : at + count]

    def write(self, at: int, content: bytes) -> None:
        self._all[at : at + len(content)] = content

    def tables(self, signature: bytes) -> Iterator[bytes]:
        """Every whole ACPI table of that kind, where the firmware laid it or the kernel has it."""
        at = self._all.find(signature)
        while at >= 0:
            length = int.from_bytes(self._all[at + 4 : at + 8], "little")
            if 36 <= length <= 1 << 20 and is_table(raw := self._all[at : at + length]):
                yield raw
            at = self._all.find(signature, at + 1)
