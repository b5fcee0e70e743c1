"""A unified kernel image: an EFI program that carries kernel and command line as sections, and starts them.

    systemd's stub, then .osrel .cmdline .uname .linux

The stub takes its command line from the section, not from whoever starts it. Nothing is signed here.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Final

from image_build.errors import ImageRefused

_DATA: Final = 0x40000040  # initialised data, readable
_CODE: Final = 0x60000020  # code, readable, executable
_SECTION_BYTES: Final = 40
_PE32_PLUS: Final = 0x20B


def unified(stub: bytes, *, os_release: bytes, command_line: bytes, release: str, kernel: bytes) -> bytes:
    return with_sections(
        stub,
        [
            (".osrel", os_release, _DATA),
            (".cmdline", command_line, _DATA),
            (".uname", release.encode(), _DATA),
            (".linux", kernel, _CODE),
        ],
    )


def with_sections(image: bytes, sections: Sequence[tuple[str, bytes, int]]) -> bytes:
    """`image`, a PE file, and these behind its last section, in this order."""
    raw = bytearray(image)
    (pe,) = struct.unpack_from("<I", raw, 0x3C)
    (count,) = struct.unpack_from("<H", raw, pe + 6)
    (optional_bytes,) = struct.unpack_from("<H", raw, pe + 20)
    optional = pe + 24
    if raw[pe : pe + 4] != b"PE\0\0" or struct.unpack_from("<H", raw, optional) != (_PE32_PLUS,):
        raise ImageRefused(
            "uki.stub", expected="a 64-bit PE file", got=f"{len(raw)} bytes that start with {raw[:2].hex()}"
        )
    section_step, file_step = struct.unpack_from("<II", raw, optional + 32)
    (head_bytes,) = struct.unpack_from("<I", raw, optional + 60)
    table = optional + optional_bytes
    if table + (count + len(sections)) * _SECTION_BYTES > head_bytes:
        raise ImageRefused(
            "uki.table",
            expected=f"room for {len(sections)} sections in the stub",
            got=f"a table that ends at {table + (count + len(sections)) * _SECTION_BYTES} of {head_bytes}",
        )
    used = [struct.unpack_from("<II", raw, table + number * _SECTION_BYTES + 8) for number in range(count)]
    place = max(start + size for size, start in used)
    for number, (name, content, kind) in enumerate(sections, count):
        place = _up(place, section_step)
        raw += bytes(-len(raw) % file_step)
        struct.pack_into(
            "<8sIIIIIIHHI",
            raw,
            table + number * _SECTION_BYTES,
            name.encode(),
            len(content),
            place,
            _up(len(content), file_step),
            len(raw),
            0,
            0,
            0,
            0,
            kind,
        )
        raw += content
        place += len(content)
    raw += bytes(-len(raw) % file_step)
    struct.pack_into("<H", raw, pe + 6, count + len(sections))
    struct.pack_into("<I", raw, optional + 56, _up(place, section_step))  # SizeOfImage
    struct.pack_into("<I", raw, optional + 64, 0)  # CheckSum: none
    return bytes(raw)


def sections_of(image: bytes) -> dict[str, bytes]:
    """What a unified kernel image carries, by section."""
    (pe,) = struct.unpack_from("<I", image, 0x3C)
    (count,) = struct.unpack_from("<H", image, pe + 6)
    (optional_bytes,) = struct.unpack_from("<H", image, pe + 20)
    found = {}
    for number in range(count):
        at = pe + 24 + optional_bytes + number * _SECTION_BYTES
        name, size, _, in_file, offset = struct.unpack_from("<8sIIII", image, at)
        found[name.rstrip(b"\0").decode()] = image[offset : offset + min(size, in_file)]
    return found


def _up(value: int, step: int) -> int:
    return -(-value // step) * step
