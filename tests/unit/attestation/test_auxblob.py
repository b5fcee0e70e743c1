"""The certificate table beside an SNP report: what a host may write, and everything it may not."""

from __future__ import annotations

import base64
from contextlib import suppress
from itertools import pairwise
from pathlib import Path
from uuid import UUID

import pytest
from cryptography import x509
from hypothesis import given
from hypothesis import strategies as st

from attestation.errors import FormatRefused
from attestation.evidence.auxblob import (
    AUXBLOB_BYTES_MAX,
    ENTRIES_MAX,
    TERMINATOR,
    CertificateTable,
    MalformedAuxblob,
    TableEntry,
    encode_table,
)

VECTORS = Path(__file__).resolve().parents[4] / "shared/vectors/attestation"
DER = b"\x30\x03\x02\x01\x05"
LONG_DER = b"\x30\x81\x80" + bytes(128)


def pem(der: bytes, label: str = "CERTIFICATE") -> bytes:
    text = base64.encodebytes(der).decode()
    return f"-----BEGIN {label}-----\n{text}-----END {label}-----\n".encode()


def entry(guid: UUID, offset: int, length: int) -> bytes:
    return guid.bytes + offset.to_bytes(4, "little") + length.to_bytes(4, "little")


def refused(auxblob: bytes) -> str:
    with pytest.raises(MalformedAuxblob) as caught:
        CertificateTable.parse(auxblob)
    return caught.value.code.removeprefix("auxblob.")


@pytest.mark.filterwarnings("ignore:Parsed a serial number")  # real endorsement certificates have serial 0
def test_a_table_of_a_real_machine():  # evidence-production.md E116
    path = VECTORS / "auxblob/genoa-8d8bfb3e.auxblob"
    if not path.exists():
        pytest.skip("the attestation vectors are not beside this checkout")
    table = CertificateTable.parse(path.read_bytes())
    assert set(table.values) == {TableEntry.ARK, TableEntry.ASK, TableEntry.VCEK}
    assert table.unknown == ()
    chain = [
        x509.load_der_x509_certificate(table.values[entry])
        for entry in (TableEntry.VCEK, TableEntry.ASK, TableEntry.ARK)
    ]
    assert [issued.issuer == issuer.subject for issued, issuer in pairwise(chain)] == [True, True]


def test_no_table_is_an_empty_one():  # evidence-production.md E116
    assert CertificateTable.parse(b"") == CertificateTable({})
    assert CertificateTable.parse(TERMINATOR) == CertificateTable({})
    assert CertificateTable.parse(bytes(4096)) == CertificateTable({})


@pytest.mark.parametrize("size", [0, 1, 127, 128, 255, 256, 65_535 // 4])
def test_the_length_of_a_sequence_has_one_form(size: int):  # evidence-production.md E116
    body = bytes(size)
    if size < 0x80:
        shortest, longer = b"\x30" + bytes([size]), b"\x30\x81" + bytes([size])
    elif size < 0x100:
        shortest, longer = b"\x30\x81" + bytes([size]), b"\x30\x82\x00" + bytes([size])
    else:
        shortest = b"\x30\x82" + size.to_bytes(2, "big")
        longer = b"\x30\x83" + size.to_bytes(3, "big")
    table = encode_table({TableEntry.VCEK: shortest + body})
    assert CertificateTable.parse(table).get(TableEntry.VCEK) == shortest + body
    assert refused(encode_table({TableEntry.VCEK: longer + body})) == "der"


def test_the_largest_table_is_a_full_one():  # evidence-production.md E116
    assert CertificateTable.parse(bytes(32 * 1024)) == CertificateTable({})
    assert refused(bytes(32 * 1024 + 1)) == "length"


@pytest.mark.parametrize("value", [DER, LONG_DER, pem(DER), pem(DER).replace(b"\n", b"\r\n"), pem(LONG_DER)])
def test_der_and_pem_give_der(value: bytes):  # evidence-production.md E116
    table = CertificateTable.parse(encode_table({TableEntry.VCEK: value}))
    assert table.get(TableEntry.VCEK) in (DER, LONG_DER)
    assert table.get(TableEntry.VLEK) is None


def test_a_list_in_pem_has_a_label_of_its_own():  # evidence-production.md E116
    crl = encode_table({TableEntry.CRL: pem(DER, "X509 CRL")})
    assert CertificateTable.parse(crl).get(TableEntry.CRL) == DER
    assert refused(encode_table({TableEntry.CRL: pem(DER)})) == "pem"


def test_padding_to_the_page_and_zeros_between_are_allowed():  # evidence-production.md E116
    tail = bytes(24)
    blob = entry(TableEntry.ASK.value, 72, 5) + entry(TableEntry.ARK.value, 80, 5) + TERMINATOR
    assert CertificateTable.parse(blob + DER + bytes(3) + DER + tail).values == {
        TableEntry.ASK: DER,
        TableEntry.ARK: DER,
    }


def test_an_unknown_entry_is_listed_and_not_used():  # evidence-production.md E116
    stranger = UUID(int=7)
    table = CertificateTable.parse(entry(stranger, 48, 3) + TERMINATOR + b"abc")
    assert (table.values, table.unknown) == ({}, (stranger,))


VCEK, ASK = TableEntry.VCEK.value, TableEntry.ASK.value
ATTACKS = {
    "terminator": entry(VCEK, 24, 5) + DER,
    "duplicate": entry(VCEK, 72, 5) + entry(VCEK, 77, 5) + TERMINATOR + DER + DER,
    "entries": b"".join(entry(UUID(int=n), 0, 0) for n in range(1, ENTRIES_MAX + 2)) + TERMINATOR,
    "empty-value": entry(VCEK, 48, 0) + TERMINATOR,
    "overlap": entry(VCEK, 72, 5) + entry(ASK, 76, 5) + TERMINATOR + DER + DER,
    "gap": entry(VCEK, 49, 5) + TERMINATOR + b"x" + DER,
    "trailing": entry(VCEK, 48, 5) + TERMINATOR + DER + b"\0x",
    "length": bytes(AUXBLOB_BYTES_MAX + 1),
}
RANGES = {
    "past the end": entry(VCEK, 48, 6) + TERMINATOR + DER,
    "far past the end": entry(VCEK, 48, 0xFFFFFFFF) + TERMINATOR + DER,
    "an offset that would wrap": entry(VCEK, 0xFFFFFFFF, 5) + TERMINATOR + DER,
}
INTO_THE_TABLE = entry(VCEK, 0, 5) + TERMINATOR + DER
BAD_VALUES = {
    "der": [
        b"\x31\x03\x02\x01\x05",
        DER + b"\0",
        DER[:-1],
        b"\x30",
        b"\x30\x80",
        b"\x30\x81\x03\x02\x01\x05",
        b"\x30\x82\x00\x80" + bytes(128),
        b"\x30\x84\x00\x00\x00\x00",
        b"-----BEGIN",
        b"\x00",
        pem(DER + b"\0"),
        pem(DER[:-1]),
    ],
    "pem": [
        pem(DER) + pem(DER),
        pem(DER, "PRIVATE KEY"),
        pem(DER) + b"x",
        b"-----BEGIN CERTIFICATE-----\n",
        pem(DER).replace(b"MAMC", b"MA=C"),
        pem(DER)[:-3],
        pem(DER) + b"\0",
        pem(DER).replace(b"\n", b" "),
    ],
}


@pytest.mark.parametrize(("code", "blob"), ATTACKS.items(), ids=list(ATTACKS))
def test_a_table_that_lies_is_refused(code: str, blob: bytes):  # evidence-production.md E116
    assert refused(blob) == code


@pytest.mark.parametrize("blob", RANGES.values(), ids=list(RANGES))
def test_a_value_outside_the_blob_is_refused(blob: bytes):  # evidence-production.md E116
    assert refused(blob) == "range"


def test_a_value_inside_the_table_is_refused():  # evidence-production.md E116
    assert refused(INTO_THE_TABLE) == "overlap"


@pytest.mark.parametrize(("code", "value"), [(code, value) for code, values in BAD_VALUES.items() for value in values])
def test_a_value_that_is_not_one_der_element_is_refused(code: str, value: bytes):  # evidence-production.md E116
    assert refused(encode_table({TableEntry.VCEK: value})) == code


@given(st.dictionaries(st.sampled_from(TableEntry), st.binary(min_size=0, max_size=300), max_size=5))
def test_what_is_written_is_read_back(contents: dict[TableEntry, bytes]):
    values = {
        key: b"\x30"
        + (
            bytes([len(body)])
            if len(body) < 128
            else b"\x81" + bytes([len(body)])
            if len(body) < 256
            else b"\x82" + len(body).to_bytes(2, "big")
        )
        + body
        for key, body in contents.items()
    }
    assert CertificateTable.parse(encode_table(values)).values == values


@given(st.binary(max_size=200))
def test_only_the_declared_refusal_leaves(blob: bytes):
    with suppress(FormatRefused):
        CertificateTable.parse(blob)
