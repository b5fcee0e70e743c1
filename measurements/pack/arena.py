"""Memory a model is opened into: filled once, then nobody's to write.

It is anonymous memory in huge pages, for an engine of this process, and in no core dump. Freezing stops mistakes; it
is no protection against code that already runs in this process.
"""

from __future__ import annotations

import ctypes
import mmap
from contextlib import suppress
from typing import Final

_PROT_READ: Final = 1


class Arena:
    """`size` bytes: `view` writes until `freeze`, and reads after it."""

    __slots__ = ("_map", "_size", "view")

    def __init__(self, size: int) -> None:
        self._size = size
        self._map = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        # A kernel built without either says EINVAL; the first is speed alone, the second the cell's limits also hold.
        for advice in (mmap.MADV_HUGEPAGE, mmap.MADV_DONTDUMP):
            with suppress(OSError):
                self._map.madvise(advice)
        self.view = memoryview(self._map)

    def freeze(self) -> None:
        """From here on the memory is read-only."""
        self.view.release()
        _protect(self._map, self._size)
        self.view = memoryview(self._map).toreadonly()

    def close(self) -> None:
        """Gives the memory back, at once or when the last view of it is gone."""
        self.view.release()
        with suppress(BufferError):
            self._map.close()


def _protect(area: mmap.mmap, size: int) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    first = ctypes.c_char.from_buffer(area)
    if libc.mprotect(ctypes.c_void_p(ctypes.addressof(first)), ctypes.c_size_t(size), _PROT_READ):
        raise OSError(ctypes.get_errno(), "mprotect")
