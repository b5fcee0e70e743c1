"""Invariant: any bytes in an AMD extension give a value or a `FormatRefused`, and values have one encoding:
what is read, written again, is the very same bytes."""

from __future__ import annotations

from attestation.errors import FormatRefused
from attestation.evidence.certificates import read_certificates, read_crl
from attestation.evidence.vek import Vek, read_hwid, read_integer, read_text


def one_input(data: bytes) -> None:
    _integer(data)
    _text(data)
    _hwid(data)
    _certificate(data)


def _integer(data: bytes) -> None:
    try:
        value = read_integer(data)
    except FormatRefused:
        return
    assert data == (bytes([2, 1, value]) if value < 0x80 else bytes([2, 2, 0, value]))


def _text(data: bytes) -> None:
    try:
        value = read_text(data)
    except FormatRefused:
        return
    assert data == bytes([0x16, len(value)]) + value.encode("ascii")
    assert value.isprintable()


def _hwid(data: bytes) -> None:
    for size in (8, 64):
        try:
            value = read_hwid(data, size)
        except FormatRefused:
            continue
        assert data in (value, bytes([4, size]) + value)
        assert len(value) == size


def _certificate(data: bytes) -> None:
    for read in (lambda: [Vek.of(certificate) for certificate in read_certificates(data)], lambda: read_crl(data)):
        try:
            read()
        except FormatRefused:
            continue


SEEDS: list[bytes] = [
    b"\x02\x01\x17",
    b"\x02\x02\x00\xdb",
    b"\x16\x05Genoa",
    b"\x16\x08Milan-B0",
    b"\x16\x1dCN=cc-eu-west-1.amazonaws.com",
    bytes(range(64)),
    b"\x04\x40" + bytes(range(64)),
    bytes(range(8)),
    b"\x04\x08" + bytes(range(8)),
    b"-----BEGIN CERTIFICATE-----\nMAA=\n-----END CERTIFICATE-----\n",
    b"\x30\x03\x02\x01\x00",
]
