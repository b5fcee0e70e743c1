"""What Intel writes about a platform into its PCK certificate: the extension 1.2.840.113741.1.13.1.

    SEQUENCE of SEQUENCE { OBJECT IDENTIFIER, value }: .1 PPID, .2 TCB (.1 to .16 component SVNs, .17 PCE SVN,
    .18 CPU SVN), .3 PCE id, .4 FMSPC, .5 SGX type, .6 platform instance id, .7 configuration

A strict reader of that one shape: definite lengths in shortest form, no unknown nesting, nothing left over.
The certificate around it has to be verified by whoever uses the result.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from attestation.errors import FormatRefused

SGX_EXTENSION_OID = "1.2.840.113741.1.13.1"

_SEQUENCE, _INTEGER, _OCTETS, _OID, _ENUMERATED = 0x30, 0x02, 0x04, 0x06, 0x0A
_PREFIX = bytes.fromhex("2a864886f84d010d01")  # the DER content of SGX_EXTENSION_OID
_COMPONENTS = 16


@dataclass(frozen=True, slots=True)
class PckIdentity:
    """Which platform a PCK certificate speaks of, and at which patch level its key was derived."""

    ppid: bytes
    fmspc: bytes
    pce_id: bytes
    component_svns: tuple[int, ...]
    pce_svn: int

    @classmethod
    def parse(cls, extension: bytes) -> PckIdentity:
        fields = _pairs(_only(extension, _SEQUENCE), b"")
        tcb = _pairs(_value(fields, 2, _SEQUENCE), bytes([2]))
        svns = tuple(_small(_value(tcb, n, _INTEGER), 1) for n in range(1, _COMPONENTS + 1))
        return cls(
            ppid=_sized(fields, 1, 16),
            fmspc=_sized(fields, 4, 6),
            pce_id=_sized(fields, 3, 2),
            component_svns=svns,
            pce_svn=_small(_value(tcb, 17, _INTEGER), 2),
        )


def _malformed(expected: str, got: object) -> FormatRefused:
    return FormatRefused("tdx.pck_extension", expected=expected, got=got)


def _element(data: bytes, at: int) -> tuple[int, bytes, int]:
    """The element at `at`: tag, content, and where the next one starts."""
    if len(data) - at < 2:
        raise _malformed("a tag and a length", f"{len(data) - at} bytes")
    tag, length = data[at], data[at + 1]
    start = at + 2
    if length >= 0x80:
        octets = length & 0x7F
        if not 1 <= octets <= 2 or len(data) - start < octets:
            raise _malformed("a length of one or two further bytes", f"{octets}")
        length = int.from_bytes(data[start : start + octets], "big")
        start += octets
        if length < (0x80 if octets == 1 else 0x100):
            raise _malformed("the shortest form of a length", f"{octets} bytes for {length}")
    if len(data) - start < length:
        raise _malformed(f"{length} bytes", f"{len(data) - start} bytes")
    return tag, data[start : start + length], start + length


def _only(data: bytes, tag: int) -> bytes:
    got, content, end = _element(data, 0)
    if got != tag or end != len(data):
        raise _malformed(f"one element with tag {tag:#x}", f"tag {got:#x}, {len(data) - end} bytes left")
    return content


def _pairs(data: bytes, arc: bytes) -> Mapping[int, tuple[int, bytes]]:
    """The {OID, value} pairs of a sequence, by the last number of the OID, which has to lie under `arc`."""
    found: dict[int, tuple[int, bytes]] = {}
    prefix = _PREFIX + arc
    at = 0
    while at < len(data):
        tag, pair, at = _element(data, at)
        if tag != _SEQUENCE:
            raise _malformed("a sequence of pairs", f"tag {tag:#x}")
        oid_tag, oid, middle = _element(pair, 0)
        value_tag, value, end = _element(pair, middle)
        if oid_tag != _OID or len(oid) != len(prefix) + 1 or not oid.startswith(prefix) or end != len(pair):
            raise _malformed(f"an object identifier under {SGX_EXTENSION_OID} and one value", oid.hex())
        if oid[-1] in found:
            raise _malformed("each field once", f"field {oid[-1]} again")
        found[oid[-1]] = (value_tag, value)
    return found


def _value(fields: Mapping[int, tuple[int, bytes]], number: int, tag: int) -> bytes:
    got, value = fields.get(number, (0, b""))
    if got != tag:
        raise _malformed(f"field {number} with tag {tag:#x}", "no such field" if not got else f"tag {got:#x}")
    return value


def _sized(fields: Mapping[int, tuple[int, bytes]], number: int, size: int) -> bytes:
    value = _value(fields, number, _OCTETS)
    if len(value) != size:
        raise _malformed(f"field {number} of {size} bytes", f"{len(value)} bytes")
    return value


def _small(content: bytes, bytes_max: int) -> int:
    """A non-negative DER integer of at most `bytes_max` bytes of value."""
    if not content or content[0] & 0x80 or (len(content) > 1 and content[0] == 0 and not content[1] & 0x80):
        raise _malformed("a non-negative integer in shortest form", content.hex())
    if len(content.lstrip(b"\0")) > bytes_max:
        raise _malformed(f"an integer of {bytes_max} bytes", content.hex())
    return int.from_bytes(content, "big")
