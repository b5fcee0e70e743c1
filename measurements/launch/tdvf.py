"""What a firmware image says of itself to TDX: the pages a trust domain starts with. docs/spec/measure.md M9."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, IntFlag
from itertools import pairwise
from typing import Final
from uuid import UUID

from measurements.launch.errors import LaunchRefused
from measurements.launch.footer import PAGE_BYTES, Firmware

SECTIONS_MAX: Final = 64
MEMORY_BYTES_MAX: Final = 1 << 30  # of one section: pages are hashed one by one
ADDRESS_MAX: Final = 1 << 52
_METADATA: Final = UUID("e47a6535-984a-4798-865e-4685a7bf8ec2")
_HEAD_BYTES, _SECTION_BYTES = 16, 32


class TdvfKind(Enum):
    FIRMWARE = 0
    CONFIGURATION = 1
    HAND_OFF_BLOCK = 2
    TEMPORARY_MEMORY = 3
    PERMANENT_MEMORY = 4
    PAYLOAD = 5
    PAYLOAD_PARAMETERS = 6


class Attribute(IntFlag):
    EXTEND = 1  # the content is measured, not the page's presence alone
    AUGMENT = 2  # added after the start: not measured at all


@dataclass(frozen=True, slots=True)
class TdvfSection:
    kind: TdvfKind
    address: int
    memory_bytes: int
    content: bytes  # from the image; zeros up to `memory_bytes`
    attributes: Attribute


def tdvf_sections(firmware: Firmware) -> tuple[TdvfSection, ...]:
    """In the order of the descriptor. Raises `LaunchRefused` alone."""
    raw = firmware.tail(_METADATA, "tdvf-metadata")
    signature, size, version, count = raw[:4], *(int.from_bytes(raw[at : at + 4], "little") for at in (4, 8, 12))
    if signature != b"TDVF" or version != 1:
        raise LaunchRefused("tdvf.metadata", expected="TDVF version 1", got=f"{signature!r} version {version}")
    if not 0 < count <= SECTIONS_MAX or size != _HEAD_BYTES + count * _SECTION_BYTES or size > len(raw):
        raise LaunchRefused(
            "tdvf.metadata", expected=f"1 to {SECTIONS_MAX} sections and their size", got=f"{count} in {size} bytes"
        )
    found = tuple(_section(firmware, raw[at : at + _SECTION_BYTES]) for at in range(_HEAD_BYTES, size, _SECTION_BYTES))
    if [each.kind for each in found].count(TdvfKind.FIRMWARE) != 1:
        raise LaunchRefused(
            "tdvf.section",
            expected="one boot firmware volume",
            got=[each.kind for each in found].count(TdvfKind.FIRMWARE),
        )
    _check_apart(found)
    return found


def _section(firmware: Firmware, raw: bytes) -> TdvfSection:
    def number(at: int, size: int = 4) -> int:
        return int.from_bytes(raw[at : at + size], "little")

    offset, content_bytes, address, memory_bytes = number(0), number(4), number(8, 8), number(16, 8)
    kind, attributes = number(24), number(28)
    if kind not in {member.value for member in TdvfKind} or attributes >= 4:
        raise LaunchRefused("tdvf.section", expected="a kind and attributes that are known", got=(kind, attributes))
    if address % PAGE_BYTES or memory_bytes % PAGE_BYTES or not 0 < memory_bytes <= MEMORY_BYTES_MAX:
        raise LaunchRefused("tdvf.section", expected="whole pages", got=f"{memory_bytes:#x} at {address:#x}")
    if address + memory_bytes > ADDRESS_MAX:
        raise LaunchRefused("tdvf.section", expected="an address of the guest", got=f"{address:#x}")
    if offset + content_bytes > len(firmware.image) or content_bytes > memory_bytes:
        raise LaunchRefused("tdvf.section", expected="content inside the image and its memory", got=content_bytes)
    if attributes == Attribute.EXTEND | Attribute.AUGMENT:
        raise LaunchRefused("tdvf.section", expected="measured, or added later", got=f"attributes {attributes:#x}")
    content = firmware.image[offset : offset + content_bytes]
    return TdvfSection(TdvfKind(kind), address, memory_bytes, content, Attribute(attributes))


def _check_apart(found: tuple[TdvfSection, ...]) -> None:
    by_address = sorted(found, key=lambda each: each.address)
    for before, after in pairwise(by_address):
        if before.address + before.memory_bytes > after.address:
            raise LaunchRefused("tdvf.section", expected="sections apart", got=f"two that meet at {after.address:#x}")
