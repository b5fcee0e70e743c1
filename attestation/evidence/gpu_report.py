"""An NVIDIA attestation report: an SPDM 1.1 measurement request and the signed response.

    request   37: 11 E0 | 01 FF | nonce 32 | slot 1 response:     11 60 | 2 | block count 1 | record length
    3 | record | nonce 32 | size 2 | opaque | signature 96 block:        index 1 | 01 | size 2 | value type
    1 | value size 2 | value 48 opaque field: type 2 | size 2 | value

The signature covers everything before it, the request included: that is how the requester's nonce is bound.
Every size has to account for every byte. docs/spec/evidence-gpu.md E98.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum
from types import MappingProxyType
from typing import Final

from attestation.errors import FormatRefused
from attestation.evidence.cursor import Cursor

REPORT_BYTES_MAX: Final = 64 * 1024
DIGEST_BYTES: Final = 48
_SIGNATURE_BYTES: Final = 96
_SPDM_1_1: Final = 0x11
_GET_MEASUREMENTS: Final = bytes([_SPDM_1_1, 0xE0, 0x01, 0xFF])  # all blocks, with a signature
_MEASUREMENTS: Final = bytes([_SPDM_1_1, 0x60])
_DMTF: Final = 0x01


class OpaqueField(IntEnum):
    """The fields of the opaque data that are used here. Others are kept by number."""

    DRIVER_VERSION = 3
    VBIOS_VERSION = 6
    NVDEC0_STATUS = 11
    CHIP_SKU = 15
    PROJECT = 17
    PROJECT_SKU = 18
    FWID = 20


@dataclass(frozen=True, slots=True)
class GpuReport:
    """A parsed report. `measurements` are by NVIDIA's numbers, which start at 0 where SPDM's start at 1."""

    signed: bytes
    signature: bytes
    request_nonce: bytes
    response_nonce: bytes
    measurements: Mapping[int, bytes]
    opaque: Mapping[int, bytes]

    @classmethod
    def parse(cls, data: bytes) -> GpuReport:
        """Parse `data`, all of it. Raises `FormatRefused` and nothing else; believes nothing."""
        if len(data) > REPORT_BYTES_MAX:
            raise FormatRefused("gpu.size", expected=f"at most {REPORT_BYTES_MAX} bytes", got=f"{len(data)} bytes")
        cursor = Cursor("gpu", data)
        request_nonce = _parse_request(cursor)
        if (head := cursor.take(2, "response header")) != _MEASUREMENTS:
            raise FormatRefused("gpu.response", expected=_MEASUREMENTS.hex(), got=head.hex())
        cursor.take(2, "parameters")
        count = cursor.integer(1, "block count")
        measurements = _parse_record(cursor.take(cursor.integer(3, "record length"), "measurement record"), count)
        response_nonce = cursor.take(32, "response nonce")
        opaque = _parse_opaque(cursor.take(cursor.integer(2, "opaque size"), "opaque data"))
        signed = data[: cursor.position]
        signature = cursor.take(_SIGNATURE_BYTES, "signature")
        cursor.finish()
        return cls(signed, signature, request_nonce, response_nonce, measurements, opaque)

    @property
    def driver_version(self) -> str:
        return _text(self.opaque.get(OpaqueField.DRIVER_VERSION, b""))

    @property
    def vbios_version(self) -> str:
        """Eight bytes, least significant first, written the way NVIDIA names its VBIOS files."""
        value = self.opaque.get(OpaqueField.VBIOS_VERSION, b"")
        if len(value) != 8:
            return ""
        digits = value[::-1].hex().upper()
        parts = digits[8:] + digits[6:8]
        return ".".join(parts[at : at + 2] for at in range(0, 10, 2))

    @property
    def nvdec0_disabled(self) -> bool:
        return self.opaque.get(OpaqueField.NVDEC0_STATUS) == b"\x55"


def _parse_request(cursor: Cursor) -> bytes:
    if (head := cursor.take(4, "request header")) != _GET_MEASUREMENTS:
        raise FormatRefused("gpu.request", expected=_GET_MEASUREMENTS.hex(), got=head.hex())
    nonce = cursor.take(32, "request nonce")
    if slot := cursor.integer(1, "slot"):
        raise FormatRefused("gpu.slot", expected="certificate slot 0", got=slot)
    return nonce


def _parse_record(record: bytes, count: int) -> Mapping[int, bytes]:
    cursor = Cursor("gpu.record", record)
    found: dict[int, bytes] = {}
    for number in range(1, count + 1):
        if (index := cursor.integer(1, "index")) != number:
            raise FormatRefused("gpu.index", expected=f"block {number}, in order", got=index)
        if (kind := cursor.integer(1, "measurement specification")) != _DMTF:
            raise FormatRefused("gpu.specification", expected="DMTF measurements", got=kind)
        block = Cursor("gpu.block", cursor.take(cursor.integer(2, "block size"), "block"))
        block.take(1, "value type")
        if (size := block.integer(2, "value size")) != DIGEST_BYTES:
            raise FormatRefused("gpu.value", expected=f"{DIGEST_BYTES} bytes", got=f"{size} bytes")
        found[number - 1] = block.take(size, "value")
        block.finish()
    cursor.finish()
    return MappingProxyType(found)


def _parse_opaque(data: bytes) -> Mapping[int, bytes]:
    cursor = Cursor("gpu.opaque", data)
    found: dict[int, bytes] = {}
    while cursor.left:
        kind = cursor.integer(2, "field type")
        value = cursor.take(cursor.integer(2, "field size"), "field")
        if kind in found:
            raise FormatRefused("gpu.opaque", expected="each field once", got=f"field {kind} again")
        found[kind] = value
    return MappingProxyType(found)


def _text(value: bytes) -> str:
    """ASCII up to its padding of NULs; empty where it is anything else."""
    text = value.rstrip(b"\0")
    return text.decode("ascii") if text.isascii() and text.decode("ascii").isprintable() else ""
