"""MRTD: what the TDX module measures while a trust domain is built. docs/spec/measure.md M10, M11.

SHA-384 over one record per page added and one per 256 bytes extended. Which pages and what is in them follows from
the firmware; whether a page is extended right after it was added or after all pages were is the choice of whoever
builds the domain, so both are computed and both belong to the image.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from enum import Enum
from typing import Final

from measurements.launch.errors import LaunchRefused
from measurements.launch.footer import PAGE_BYTES, Firmware
from measurements.launch.tdvf import Attribute, TdvfSection, tdvf_sections

_CHUNK_BYTES: Final = 256
_RECORD_BYTES: Final = 128
MEASURED_BYTES_MAX: Final = 256 << 20


class PageOrder(Enum):
    INTERLEAVED = "interleaved"  # a page is added, then extended (QEMU)
    PAGES_FIRST = "pages-first"  # of every section all pages are added, then extended


def mrtd(firmware: Firmware, order: PageOrder) -> bytes:
    """Raises `LaunchRefused` alone."""
    measured = [each for each in tdvf_sections(firmware) if not each.attributes & Attribute.AUGMENT]
    if sum(each.memory_bytes for each in measured) > MEASURED_BYTES_MAX:
        raise LaunchRefused(
            "tdvf.section",
            expected=f"at most {MEASURED_BYTES_MAX} measured bytes",
            got=sum(each.memory_bytes for each in measured),
        )
    chain = hashlib.sha384()
    for section in measured:
        for record in _records(section, order):
            chain.update(record)
    return chain.digest()


def _records(section: TdvfSection, order: PageOrder) -> Iterator[bytes]:
    pages = range(0, section.memory_bytes, PAGE_BYTES)
    extended = bool(section.attributes & Attribute.EXTEND)
    content = section.content.ljust(section.memory_bytes, b"\0") if extended else b""
    for at in pages:
        yield _record(b"MEM.PAGE.ADD", section.address + at)
        if extended and order is PageOrder.INTERLEAVED:
            yield from _extensions(section.address, content, at)
    if extended and order is PageOrder.PAGES_FIRST:
        for at in pages:
            yield from _extensions(section.address, content, at)


def _extensions(address: int, content: bytes, page: int) -> Iterator[bytes]:
    for at in range(page, page + PAGE_BYTES, _CHUNK_BYTES):
        yield _record(b"MR.EXTEND", address + at)
        yield content[at : at + _CHUNK_BYTES]


def _record(name: bytes, address: int) -> bytes:
    return (name.ljust(16, b"\0") + address.to_bytes(8, "little")).ljust(_RECORD_BYTES, b"\0")
