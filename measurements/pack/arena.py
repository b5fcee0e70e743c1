"""Memory a model is opened into: filled once, then nobody's to write.

PRIVATE is anonymous memory in huge pages, for an engine of this process. SHARED is a memory file whose descriptor
another process maps, sealed by the kernel against writing, growing and shrinking. Neither is in a core dump.

Freezing stops mistakes. Against code that already runs in this process, PRIVATE memory is no protection.
"""

from __future__ import annotations

import ctypes
import fcntl
import mmap
import os
from contextlib import suppress
from enum import Enum
from typing import Final, assert_never

_PROT_READ: Final = 1
_SEALS: Final = fcntl.F_SEAL_SEAL | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE


class Memory(Enum):
    """Whose the memory is."""

    PRIVATE = "private"
    SHARED = "shared"


class Arena:
    """`size` bytes: `view` writes until `freeze`, and reads after it."""

    __slots__ = ("_map", "_memory", "_size", "descriptor", "view")

    def __init__(self, size: int, memory: Memory) -> None:
        self._memory = memory
        self._size = size
        self.descriptor: int | None = None
        match memory:
            case Memory.PRIVATE:
                self._map = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
            case Memory.SHARED:
                self.descriptor = os.memfd_create("model", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
                os.ftruncate(self.descriptor, size)
                self._map = mmap.mmap(self.descriptor, size)
            case _ as never:
                assert_never(never)
        self._advise()
        self.view = memoryview(self._map)

    def freeze(self) -> None:
        """From here on the memory is read-only."""
        self.view.release()
        if self.descriptor is None:
            _protect(self._map, self._size)
        else:
            self._map.close()
            fcntl.fcntl(self.descriptor, fcntl.F_ADD_SEALS, _SEALS)
            self._map = mmap.mmap(self.descriptor, self._size, access=mmap.ACCESS_READ)
            self._advise()
        self.view = memoryview(self._map).toreadonly()

    def close(self) -> None:
        """Gives the memory back, at once or when the last view of it is gone."""
        self.view.release()
        with suppress(BufferError):
            self._map.close()
        if self.descriptor is not None:
            os.close(self.descriptor)
            self.descriptor = None

    def _advise(self) -> None:
        # A kernel built without either says EINVAL; the first is speed alone, the second the cell's limits also hold.
        for advice in (mmap.MADV_HUGEPAGE, mmap.MADV_DONTDUMP):
            with suppress(OSError):
                self._map.madvise(advice)


def _protect(area: mmap.mmap, size: int) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    first = ctypes.c_char.from_buffer(area)
    if libc.mprotect(ctypes.c_void_p(ctypes.addressof(first)), ctypes.c_size_t(size), _PROT_READ):
        raise OSError(ctypes.get_errno(), "mprotect")
