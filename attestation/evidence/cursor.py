"""A reader over untrusted bytes: every take is checked against what is left, before anything is copied.

Establishes nothing but lengths. The only error it raises is `FormatRefused`.
"""

from __future__ import annotations

from attestation.errors import FormatRefused


def first_set(raw: bytes, offset: int) -> str:
    """The first byte that is not zero, for a message; `raw` begins at `offset`."""
    at = len(raw) - len(raw.lstrip(b"\0"))
    return f"{raw[at]:#04x} at offset {offset + at}"


class Cursor:
    """Reads forward over `data`; `what` names the format and is the prefix of its refusal codes."""

    __slots__ = ("_at", "_data", "_what")

    def __init__(self, what: str, data: bytes) -> None:
        self._what = what
        self._data = data
        self._at = 0

    @property
    def position(self) -> int:
        return self._at

    @property
    def left(self) -> int:
        return len(self._data) - self._at

    def take(self, size: int, field: str) -> bytes:
        if size > self.left:
            raise FormatRefused(
                f"{self._what}.truncated",
                expected=f"{size} bytes of {field} at offset {self._at}",
                got=f"{self.left} bytes",
            )
        start = self._at
        self._at += size
        return self._data[start : self._at]

    def integer(self, size: int, field: str) -> int:
        """A little-endian unsigned integer: the order of all three formats read with this."""
        return int.from_bytes(self.take(size, field), "little")

    def rest(self) -> bytes:
        return self.take(self.left, "rest")

    def finish(self) -> None:
        if self.left:
            raise FormatRefused(f"{self._what}.trailing", expected="no further bytes", got=f"{self.left} bytes")
