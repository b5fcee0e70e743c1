"""The configuration that a finished kernel carries (CONFIG_IKCONFIG): what was built, and not what was meant.

bzImage: setup header -> payload -> gzip -> ELF file with IKCFG_ST, gzip of .config, IKCFG_ED
"""

from __future__ import annotations

import struct
import zlib
from typing import Final

from image_build.errors import ImageRefused
from image_build.kernel.configuration import parse_finished

VMLINUX_BYTES_MAX: Final = 256 << 20
CONFIGURATION_BYTES_MAX: Final = 4 << 20
_START, _END = b"IKCFG_ST", b"IKCFG_ED"
_SETUP_SECTORS, _MAGIC, _PAYLOAD = 0x1F1, 0x202, 0x248
_SECTOR_BYTES: Final = 512


def configuration_of(image: bytes) -> dict[str, str]:
    """Raises `ImageRefused` for a file that is no kernel, or carries no configuration."""
    vmlinux = _inflated(_payload(image), VMLINUX_BYTES_MAX)
    start = vmlinux.find(_START)
    end = vmlinux.find(_END, start)
    if start < 0 or end < 0:
        raise ImageRefused(
            "kernel.image", expected="a kernel that carries its configuration", got=f"{len(vmlinux)} bytes without it"
        )
    text = _inflated(vmlinux[start + len(_START) : end], CONFIGURATION_BYTES_MAX)
    return parse_finished(text.decode("ascii", "replace"))


def _payload(image: bytes) -> bytes:
    if len(image) < _PAYLOAD + 8 or image[_MAGIC : _MAGIC + 4] != b"HdrS":
        raise ImageRefused("kernel.image", expected="a bzImage", got=f"{len(image)} bytes that begin {image[:4].hex()}")
    sectors = image[_SETUP_SECTORS] or 4
    offset, length = struct.unpack_from("<II", image, _PAYLOAD)
    start = (sectors + 1) * _SECTOR_BYTES + offset
    if start + length > len(image):
        raise ImageRefused(
            "kernel.image", expected="a payload inside the file", got=f"{length} bytes at {start} of {len(image)}"
        )
    return image[start : start + length]


def _inflated(raw: bytes, bytes_max: int) -> bytes:
    reader = zlib.decompressobj(zlib.MAX_WBITS | 16)
    try:
        found = reader.decompress(raw, bytes_max)
    except zlib.error as reason:
        raise ImageRefused("kernel.image", expected="gzip", got=str(reason)[:80]) from None
    if not reader.eof:
        raise ImageRefused(
            "kernel.image", expected=f"gzip of at most {bytes_max} bytes", got=f"{len(found)} bytes and no end"
        )
    return found
