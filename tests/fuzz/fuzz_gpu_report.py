"""Invariant: whatever the bytes, the parsers of GPU reports, manifests and XML return or raise
`FormatRefused`, and the canonical form of XML that parses parses again to the same canonical form.
"""

from __future__ import annotations

from attestation.errors import FormatRefused
from attestation.evidence.canonical_xml import canonical, parse_xml
from attestation.evidence.gpu_report import GpuReport
from attestation.evidence.gpu_rim import GpuRim


def one_input(data: bytes) -> None:
    for parser in (GpuReport.parse, GpuRim.parse):
        try:
            parser(data)
        except FormatRefused:
            continue
    try:
        written = canonical(parse_xml("fuzz", data))
    except FormatRefused:
        return
    if canonical(parse_xml("fuzz", written)) != written:
        raise AssertionError("the canonical form is not canonical")


_BLOCK = b"\1\1\x33\0\1\x30\0" + bytes(48)
_OPAQUE = b"\3\0\6\0550.1\0" + b"\6\0\x08\0" + bytes(8)

_SWID = b"http://standards.iso.org/iso/19770/-2/2015/schema.xsd"

SEEDS: list[bytes] = [
    b"\x11\xe0\1\xff"
    + bytes(33)
    + b"\x11\x60\0\0\1"
    + len(_BLOCK).to_bytes(3, "little")
    + _BLOCK
    + bytes(32)
    + len(_OPAQUE).to_bytes(2, "little")
    + _OPAQUE
    + bytes(96),
    b'<SoftwareIdentity xmlns="' + _SWID + b'" tagId="x"><Meta product="GH100" colloquialVersion="1"/>'
    b"<Payload/></SoftwareIdentity>",
    b'<a xmlns:p="u" p:c="&lt;&#13;">x&amp;y</a>',
]
