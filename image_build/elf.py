"""Which libraries an ELF file asks for, by its program headers, as the loader reads them; never by its sections."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Final

_MAGIC: Final = b"\x7fELF\x02\x01"  # 64 bits, little-endian
_LOAD, _DYNAMIC, _INTERPRETER = 1, 2, 3
_NEEDED, _STRINGS = 1, 5


def is_elf(raw: bytes) -> bool:
    return raw.startswith(_MAGIC)


def needed(raw: bytes) -> tuple[str, ...]:
    """Names of the libraries, in order; none for a file that is not linked dynamically."""
    segments = list(_segments(raw))
    dynamic = next(((offset, size) for kind, offset, _, size in segments if kind == _DYNAMIC), None)
    if dynamic is None:
        return ()
    entries = list(_entries(raw[dynamic[0] : sum(dynamic)]))
    strings = next((value for tag, value in entries if tag == _STRINGS), 0)
    base = next(
        offset + strings - place
        for kind, offset, place, size in segments
        if kind == _LOAD and place <= strings < place + size
    )
    return tuple(_text(raw, base + value) for tag, value in entries if tag == _NEEDED)


def interpreter(raw: bytes) -> str | None:
    """The loader a program names."""
    return next((_text(raw, offset) for kind, offset, _, _ in _segments(raw) if kind == _INTERPRETER), None)


def _segments(raw: bytes) -> Iterator[tuple[int, int, int, int]]:
    """Kind, offset in the file, address, size in the file."""
    (table,) = struct.unpack_from("<Q", raw, 32)
    width, count = struct.unpack_from("<HH", raw, 54)
    for number in range(count):
        kind, _, offset, place, _, size = struct.unpack_from("<IIQQQQ", raw, table + number * width)
        yield kind, offset, place, size


def _entries(table: bytes) -> Iterator[tuple[int, int]]:
    for at in range(0, len(table) - 15, 16):
        tag, value = struct.unpack_from("<qQ", table, at)
        if tag == 0:
            return
        yield tag, value


def _text(raw: bytes, at: int) -> str:
    return raw[at : raw.index(b"\0", at)].decode("ascii")
