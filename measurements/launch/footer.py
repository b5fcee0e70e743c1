"""The table at the end of a firmware image: entries by GUID, read backwards. docs/spec/measure.md M1, M2.

Both kinds of machine find their metadata through it. A firmware image comes from a package and is measured, but it is
parsed before that says anything, so nothing in it is believed: every size and offset is checked before use.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final, Self
from uuid import UUID

from measurements.launch.errors import LaunchRefused

PAGE_BYTES: Final = 4096
FIRMWARE_BYTES_MAX: Final = 64 << 20
FOUR_GIB: Final = 1 << 32

_TABLE: Final = UUID("96b582de-1fb2-45f7-baea-a366c55a082d")
_AFTER_TABLE_BYTES: Final = 32  # the reset vector and what surrounds it
_HEAD_BYTES: Final = 18  # size u16, GUID in the mixed order of UEFI


@dataclass(frozen=True, slots=True)
class Firmware:
    """A firmware image and the entries of its table. It ends at 4 GiB of the guest's memory."""

    image: bytes
    entries: Mapping[UUID, bytes]

    @classmethod
    def parse(cls, image: bytes) -> Self:
        """Raises `LaunchRefused` and nothing else."""
        if not image or len(image) % PAGE_BYTES or len(image) > FIRMWARE_BYTES_MAX:
            wanted = f"whole pages of {PAGE_BYTES} bytes, at most {FIRMWARE_BYTES_MAX}"
            raise LaunchRefused("firmware.size", expected=wanted, got=f"{len(image)} bytes")
        return cls(image, MappingProxyType(_entries(_table(image))))

    @property
    def address(self) -> int:
        return FOUR_GIB - len(self.image)

    def number(self, entry: UUID, what: str) -> int:
        """The first four bytes of an entry, which is how this table names an address or an offset."""
        value = self.entries.get(entry)
        if value is None or len(value) < 4:
            raise LaunchRefused(f"firmware.{what}", expected="an entry in the firmware's table", got="none")
        return int.from_bytes(value[:4], "little")

    def tail(self, entry: UUID, what: str) -> bytes:
        """What an entry points at: from so many bytes before the end of the image to the end."""
        distance = self.number(entry, what)
        if not 0 < distance <= len(self.image):
            raise LaunchRefused(f"firmware.{what}", expected="an offset inside the image", got=distance)
        return self.image[-distance:]


def _table(image: bytes) -> bytes:
    """The entries, without the last one, which names the table and says how long all of it is."""
    end = len(image) - _AFTER_TABLE_BYTES - _HEAD_BYTES
    size, name = _head(image[end : end + _HEAD_BYTES])
    if name != _TABLE:
        raise LaunchRefused("firmware.table", expected=str(_TABLE), got=str(name))
    if not _HEAD_BYTES <= size <= end + _HEAD_BYTES:
        raise LaunchRefused("firmware.table", expected="a table inside the image", got=f"{size} bytes")
    return image[end + _HEAD_BYTES - size : end]


def _entries(table: bytes) -> dict[UUID, bytes]:
    found: dict[UUID, bytes] = {}
    while table:
        size, name = _head(table[-_HEAD_BYTES:]) if len(table) >= _HEAD_BYTES else (0, _TABLE)
        if not _HEAD_BYTES <= size <= len(table):
            raise LaunchRefused("firmware.entry", expected="an entry inside the table", got=f"{size} bytes")
        if name in found:
            raise LaunchRefused("firmware.entry", expected="each name once", got=f"{name} twice")
        found[name] = table[-size : len(table) - _HEAD_BYTES]
        table = table[:-size]
    return found


def _head(raw: bytes) -> tuple[int, UUID]:
    return int.from_bytes(raw[:2], "little"), UUID(bytes_le=raw[2:])
