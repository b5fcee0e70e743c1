"""What a firmware image says of itself to SEV-SNP: the pages to prepare, and where a kernel's digests go.

docs/spec/measure.md M3 to M5.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum
from itertools import pairwise
from typing import Final
from uuid import UUID

from foundation.refusal import shown
from measurements.launch.errors import LaunchRefused
from measurements.launch.footer import FOUR_GIB, PAGE_BYTES, Firmware

SECTIONS_MAX: Final = 64
_METADATA: Final = UUID("dc886566-984a-4798-a75e-5585a7bf67cc")
_RESET_BLOCK: Final = UUID("00f771de-1a7e-4fcb-890e-68c77e2fb44e")
_HASH_TABLE_PLACE: Final = UUID("7255371f-3a3b-4b04-927b-1da6efa8d454")
_HEAD_BYTES, _SECTION_BYTES = 16, 12

_TABLE: Final = UUID("9438d606-4f22-4cc9-b479-a793d411fd21")
_CMDLINE: Final = UUID("97d02dd8-bd20-4c94-aa78-e7714d36ab2a")
_INITRD: Final = UUID("44baf731-3a2f-4bd7-9af1-41e29169781d")
_KERNEL: Final = UUID("4de79437-abd2-427f-b835-d5b172d2045b")
_GUID_AND_SIZE_BYTES: Final = 18
_TABLE_ALIGNMENT: Final = 16


class SectionKind(Enum):
    MEMORY = 1
    SECRETS = 2
    CPUID = 3
    SVSM_CALLS = 4
    KERNEL_HASHES = 0x10


@dataclass(frozen=True, slots=True)
class Section:
    """Pages the machine's manager prepares before the first instruction, and how."""

    address: int
    size: int
    kind: SectionKind


def sections(firmware: Firmware) -> tuple[Section, ...]:
    """M3: in the order of the metadata, which is the order of measurement. Raises `LaunchRefused` alone."""
    raw = firmware.tail(_METADATA, "sev-metadata")
    signature, size, version, count = raw[:4], *(int.from_bytes(raw[at : at + 4], "little") for at in (4, 8, 12))
    if signature != b"ASEV" or version != 1:
        raise LaunchRefused("sev.metadata", expected="ASEV version 1", got=f"{signature!r} version {version}")
    if count > SECTIONS_MAX or size != _HEAD_BYTES + count * _SECTION_BYTES or size > len(raw):
        raise LaunchRefused(
            "sev.metadata", expected=f"at most {SECTIONS_MAX} sections and their size", got=f"{count} in {size} bytes"
        )
    found = tuple(_section(raw[at : at + _SECTION_BYTES]) for at in range(_HEAD_BYTES, size, _SECTION_BYTES))
    _check_apart(found)
    return found


def _section(raw: bytes) -> Section:
    address, size, kind = (int.from_bytes(raw[at : at + 4], "little") for at in (0, 4, 8))
    if address % PAGE_BYTES or size % PAGE_BYTES or not size or address + size > FOUR_GIB:
        raise LaunchRefused("sev.section", expected="whole pages below 4 GiB", got=f"{size:#x} at {address:#x}")
    if kind not in {member.value for member in SectionKind}:
        raise LaunchRefused("sev.section", expected="a kind that is known", got=kind)
    return Section(address, size, SectionKind(kind))


def _check_apart(found: tuple[Section, ...]) -> None:
    by_address = sorted(found, key=lambda each: each.address)
    for before, after in pairwise(by_address):
        if before.address + before.size > after.address:
            raise LaunchRefused("sev.section", expected="sections apart", got=f"two that meet at {after.address:#x}")


def reset_address(firmware: Firmware) -> int:
    """Where every processor but the first begins."""
    return firmware.number(_RESET_BLOCK, "sev-reset")


def hash_table_address(firmware: Firmware) -> int:
    """M4: where the firmware looks for the digests of what it is to boot; it must lie in the section made for it."""
    place = firmware.entries.get(_HASH_TABLE_PLACE, b"")
    address = firmware.number(_HASH_TABLE_PLACE, "sev-hashes")
    size = int.from_bytes(place[4:8], "little")
    if size < KernelHashes.TABLE_BYTES or not any(
        each.kind is SectionKind.KERNEL_HASHES and _holds(each, address, size) for each in sections(firmware)
    ):
        raise LaunchRefused("sev.hashes", expected="a measured page for the kernel's digests", got=f"{address:#x}")
    return address


def _holds(section: Section, address: int, size: int) -> bool:
    return section.address <= address and address + size <= section.address + section.size


@dataclass(frozen=True, slots=True)
class KernelHashes:
    """What the firmware checks before it starts a kernel handed to it from outside."""

    TABLE_BYTES = 176  # three entries of 50 bytes and the head, to a multiple of 16
    kernel: bytes
    initrd: bytes
    cmdline: bytes

    @classmethod
    def of(cls, kernel: bytes, initrd: bytes, cmdline: str) -> KernelHashes:
        """M5: of the files as they are; the command line with its closing zero."""
        return cls(*(hashlib.sha256(each).digest() for each in (kernel, initrd, cmdline_bytes(cmdline))))

    def table(self) -> bytes:
        """As QEMU lays it into the guest's memory, to the byte."""
        rows = ((_CMDLINE, self.cmdline), (_INITRD, self.initrd), (_KERNEL, self.kernel))
        entries = b"".join(_entry(name, digest) for name, digest in rows)
        table = _entry(_TABLE, entries)
        return table + bytes(-len(table) % _TABLE_ALIGNMENT)

    def pages(self, firmware: Firmware, section: Section) -> Iterator[bytes]:
        """The section of `firmware` that holds the table: zeros around it."""
        at = hash_table_address(firmware) - section.address
        whole = (bytes(at) + self.table()).ljust(section.size, b"\0")
        return (whole[start : start + PAGE_BYTES] for start in range(0, section.size, PAGE_BYTES))


def cmdline_bytes(cmdline: str) -> bytes:
    """ASCII and one zero. More than one encoding would be more than one measurement."""
    if not cmdline.isascii() or not all(" " <= each <= "~" for each in cmdline):
        raise LaunchRefused("cmdline.text", expected="printable ASCII on one line", got=shown(cmdline))
    return cmdline.encode("ascii") + b"\0"


def _entry(name: UUID, value: bytes) -> bytes:
    return name.bytes_le + (_GUID_AND_SIZE_BYTES + len(value)).to_bytes(2, "little") + value
