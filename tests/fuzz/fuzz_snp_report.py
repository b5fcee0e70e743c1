"""Invariant: any bytes are a report or a `FormatRefused`; a report that is read keeps its bytes, and changing
one of them never changes what another byte's field says."""

from __future__ import annotations

from attestation.errors import FormatRefused
from attestation.evidence.snp_report import REPORT_BYTES, Product, SnpReport, Tcb


def one_input(data: bytes) -> None:
    try:
        report = SnpReport.parse(data)
    except FormatRefused:
        return
    assert len(data) == REPORT_BYTES
    assert report.raw == data
    assert report.signed + b"".join(report.signature) + bytes(368) == data
    assert (report.launch_mitigations is None) is (report.current_mitigations is None) is (report.version < 5)
    assert (report.cpuid is None) is (report.version < 3)
    for product in Product:
        for raw in (report.current_tcb, report.reported_tcb, report.committed_tcb, report.launch_tcb):
            try:
                tcb = Tcb.parse(raw, product)
            except FormatRefused:
                continue
            assert tcb.at_least(tcb)
            assert sorted(tcb.parts()) == sorted([*raw.replace(b"\0", b""), *[0] * (5 - len(raw.replace(b"\0", b"")))])


def _sample(version: int) -> bytes:
    body = bytearray(REPORT_BYTES)
    body[0] = version
    body[0x0A] = 3
    body[0x34] = 1
    body[0x40] = 0x25
    body[0x180:0x188] = bytes([10, 0, 0, 0, 0, 0, 23, 84])
    if version >= 3:
        body[0x188:0x18B] = bytes([25, 17, 1])
    body[0x2A0:0x2D0] = b"\x11" * 48
    body[0x2E8:0x318] = b"\x22" * 48
    return bytes(body)


SEEDS: list[bytes] = [_sample(version) for version in (2, 3, 4, 5)] + [b"", _sample(3)[:1183], _sample(3) + b"\0"]
