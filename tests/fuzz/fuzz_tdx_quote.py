"""Invariant: whatever the bytes, the parsers of TDX quotes, collateral and platform extensions return or
raise `FormatRefused`, and a quote that parses is a prefix of the input with nothing but zeros behind it.
"""

from __future__ import annotations

from attestation.errors import FormatRefused
from attestation.evidence.sgx_extension import PckIdentity
from attestation.evidence.tdx_collateral import TdxCollateral
from attestation.evidence.tdx_quote import TdxQuote


def one_input(data: bytes) -> None:
    try:
        quote = TdxQuote.parse(data)
    except FormatRefused:
        pass
    else:
        if not data.startswith(quote.raw) or any(data[len(quote.raw) :]):
            raise AssertionError("a quote with something behind it was parsed")
        if not quote.raw.startswith(quote.signed):
            raise AssertionError("the signed part is not the beginning of the quote")
    for parser in (TdxCollateral.parse, PckIdentity.parse):
        try:
            parser(data)
        except FormatRefused:
            continue


def _quote(version: int, body_bytes: int) -> bytes:
    head = version.to_bytes(2, "little") + b"\2\0" + b"\x81\0\0\0" + bytes(4)
    head += bytes.fromhex("939a7233f79c4ca9940a0db3957f0607") + bytes(20)
    head += b"" if version == 4 else b"\3\0" + body_bytes.to_bytes(4, "little")
    inner = bytes(384 + 64) + b"\x20\0" + bytes(32) + b"\5\0" + (4).to_bytes(4, "little") + b"PEM\n"
    data = bytes(128) + b"\6\0" + len(inner).to_bytes(4, "little") + inner
    return head + bytes(body_bytes) + len(data).to_bytes(4, "little") + data


SEEDS: list[bytes] = [
    _quote(4, 584),
    _quote(5, 648),
    _quote(4, 584) + bytes(64),
    b'{"tcb_info": "{}", "tcb_info_signature": "' + b"00" * 64 + b'", "tcb_info_issuer_chain": ""}',
    bytes.fromhex("301e301c060a2a864886f84d010d0101040e") + bytes(14),
]
