"""Invariant: whatever the bytes, a certificate table parses or is refused with FormatRefused; every value of
a parsed one is one DER sequence found in the input (as it is, or out of PEM); and writing the values out
gives a table of the same values.
"""

from __future__ import annotations

from attestation.errors import FormatRefused
from attestation.evidence.auxblob import AUXBLOB_BYTES_MAX, CertificateTable, TableEntry, encode_table

_DER = b"\x30\x03\x02\x01\x05"
_PEM = b"-----BEGIN CERTIFICATE-----\nMAMCAQU=\n-----END CERTIFICATE-----\n"
_CRL = b"-----BEGIN X509 CRL-----\nMAMCAQU=\n-----END X509 CRL-----\n"

SEEDS: list[bytes] = [
    b"",
    bytes(24),
    bytes(4096),
    encode_table({TableEntry.VCEK: _DER}),
    encode_table({TableEntry.ARK: _PEM, TableEntry.ASK: _PEM, TableEntry.VCEK: _PEM, TableEntry.CRL: _CRL}),
    encode_table({TableEntry.VLEK: b"\x30\x81\x80" + bytes(128), TableEntry.CRL: _DER}) + bytes(100),
    TableEntry.VCEK.value.bytes + b"\xff" * 8 + bytes(24),
]


def one_input(data: bytes) -> None:
    try:
        table = CertificateTable.parse(data)
    except FormatRefused:
        return
    assert len(data) <= AUXBLOB_BYTES_MAX
    for der in table.values.values():
        assert der[0] == 0x30
        assert der in data or b"-----BEGIN" in data
    assert CertificateTable.parse(encode_table(table.values)).values == table.values
