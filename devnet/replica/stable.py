"""Stable memory that can roll back to its last commit."""

from __future__ import annotations

from typing import Final

PAGE_BYTES: Final = 65_536
PAGES_MAX: Final = 16_384  # 1 GiB: far under the real 500 GiB, enough for a stand-in


class StableMemory:
    """Bytes in whole pages. `before` holds, of each page written since the last commit, what it was."""

    def __init__(self, content: bytes = b"") -> None:
        self._live = bytearray(content)
        self._before: dict[int, bytes] = {}
        self._size_before = len(self._live)
        self.unsaved: set[int] = set(range(self.pages))

    def commit(self) -> None:
        self.unsaved.update(self._before, range(self._size_before // PAGE_BYTES, self.pages))
        self._before.clear()
        self._size_before = len(self._live)

    def roll_back(self) -> None:
        del self._live[self._size_before :]
        for page, content in self._before.items():
            self._live[page * PAGE_BYTES : (page + 1) * PAGE_BYTES] = content
        self._before.clear()

    def take_unsaved(self) -> dict[int, bytes]:
        """The committed pages that changed since they were taken last, by their numbers."""
        taken = {page: self.page(page) for page in sorted(self.unsaved)}
        self.unsaved.clear()
        return taken

    def content(self) -> bytes:
        return bytes(self._live)

    def page(self, number: int) -> bytes:
        return bytes(self._live[number * PAGE_BYTES : (number + 1) * PAGE_BYTES])

    @property
    def pages(self) -> int:
        return len(self._live) // PAGE_BYTES

    def grow(self, pages: int) -> int:
        """The number of pages before, or -1 if so many cannot be had."""
        before = self.pages
        if before + pages > PAGES_MAX:
            return -1
        self._live.extend(bytes(pages * PAGE_BYTES))
        return before

    def within(self, offset: int, size: int) -> bool:
        return offset >= 0 and size >= 0 and offset + size <= len(self._live)

    def read(self, offset: int, size: int) -> bytes:
        return bytes(self._live[offset : offset + size])

    def write(self, offset: int, data: bytes) -> None:
        """The caller has checked `within`."""
        if not data:
            return
        for page in range(offset // PAGE_BYTES, (offset + len(data) - 1) // PAGE_BYTES + 1):
            if (page + 1) * PAGE_BYTES <= self._size_before and page not in self._before:
                self._before[page] = self.page(page)
        self._live[offset : offset + len(data)] = data
