"""The report inside the blob the kernel hands out: where it ends, and which 64 bytes it carries.

An SNP blob is exactly one report. A TDX blob may be padded to a fixed size: the quote says where it ends, and
everything after that must be zero (docs/spec/evidence-production.md E115), because padding is unsigned.
This reads lengths and one field. It does not parse the report, and nothing in it is believed.
"""

from __future__ import annotations

from typing import assert_never

from attestation.errors import FormatRefused
from attestation.evidence.cursor import first_set
from attestation.evidence.kinds import TeeFormat

SNP_REPORT_BYTES = 0x4A0
TDX_QUOTE_BYTES_MAX = 32 * 1024
_SNP_REPORT_DATA = slice(0x50, 0x90)
_TDX_HEADER_BYTES = 48
_TDX_V4_BODY_BYTES = 584
_TDX_V5_BODY_BYTES = {2: 584, 3: 648}  # body type -> size: TD 1.0 and TD 1.5
_REPORT_DATA_IN_BODY = slice(520, 584)


class MalformedOutblob(FormatRefused):
    """The blob has no report in it that ends where it should."""


def exact_report(report_format: TeeFormat, outblob: bytes) -> bytes:
    """The report alone. Raises `MalformedOutblob` for a wrong size or for padding that is not zero."""
    match report_format:
        case TeeFormat.SNP:
            if len(outblob) != SNP_REPORT_BYTES:
                raise MalformedOutblob("outblob.length", expected=SNP_REPORT_BYTES, got=len(outblob))
            return bytes(outblob)
        case TeeFormat.TDX:
            return _without_padding(outblob)
        case _:
            assert_never(report_format)


def bound_report_data(report_format: TeeFormat, report: bytes) -> bytes:
    """The 64 bytes an exact report carries. `report` must have come through `exact_report`."""
    match report_format:
        case TeeFormat.SNP:
            return report[_SNP_REPORT_DATA]
        case TeeFormat.TDX:
            start, _ = _tdx_body(report)
            return report[start:][_REPORT_DATA_IN_BODY]
        case _:
            assert_never(report_format)


def _without_padding(outblob: bytes) -> bytes:
    if len(outblob) > TDX_QUOTE_BYTES_MAX:
        raise MalformedOutblob("outblob.length", expected=f"at most {TDX_QUOTE_BYTES_MAX}", got=len(outblob))
    start, size = _tdx_body(outblob)
    signature_at = start + size + 4
    if len(outblob) < signature_at:
        raise MalformedOutblob("outblob.length", expected=f"at least {signature_at}", got=len(outblob))
    end = signature_at + _uint(outblob, signature_at - 4, 4)
    if end > len(outblob):
        raise MalformedOutblob("outblob.length", expected=f"{end} bytes of quote", got=len(outblob))
    if any(outblob[end:]):
        raise MalformedOutblob("outblob.padding", expected="zeros after the quote", got=first_set(outblob[end:], end))
    return bytes(outblob[:end])


def _tdx_body(quote: bytes) -> tuple[int, int]:
    """(offset, size) of the TD report body of a version 4 or 5 quote."""
    if len(quote) < _TDX_HEADER_BYTES + 6:
        raise MalformedOutblob("outblob.length", expected="a quote header", got=len(quote))
    version = _uint(quote, 0, 2)
    if version == 4:
        return _TDX_HEADER_BYTES, _TDX_V4_BODY_BYTES
    if version != 5:
        raise MalformedOutblob("outblob.version", expected="4 or 5", got=version)
    body_type, size = _uint(quote, 48, 2), _uint(quote, 50, 4)
    if _TDX_V5_BODY_BYTES.get(body_type) != size:
        raise MalformedOutblob(
            "outblob.body", expected="a TD 1.0 or TD 1.5 body", got=f"type {body_type}, {size} bytes"
        )
    return _TDX_HEADER_BYTES + 6, size


def _uint(source: bytes, at: int, size: int) -> int:
    return int.from_bytes(source[at : at + size], "little")
