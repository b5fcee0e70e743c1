"""Where a report ends and which data it carries, against the full parsers and every real report at hand."""

from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from attestation.errors import FormatRefused
from attestation.evidence.kinds import TeeFormat
from attestation.evidence.outblob import MalformedOutblob, bound_report_data, exact_report
from attestation.evidence.snp_report import SnpReport
from attestation.evidence.tdx_quote import TdxQuote

VECTORS = Path(__file__).resolve().parents[4] / "shared/vectors/attestation"


def real(kind: str) -> list[Path]:
    index = VECTORS / "index.json"
    if not index.exists():
        return []
    return [VECTORS / case["file"] for case in json.loads(index.read_text()) if case["kind"] == kind]


def test_every_real_report_carries_its_data_where_the_parser_finds_it():
    reports = real("snp-report")
    if not reports:
        pytest.skip("the attestation vectors are not beside this checkout")
    for path in reports:
        raw = exact_report(TeeFormat.SNP, path.read_bytes())
        assert bound_report_data(TeeFormat.SNP, raw) == SnpReport.parse(raw).report_data, path.name


def test_every_real_quote_ends_where_the_parser_says():  # evidence-production.md E115
    quotes = real("tdx-quote")
    if not quotes:
        pytest.skip("the attestation vectors are not beside this checkout")
    for path in quotes:
        parsed = TdxQuote.parse(path.read_bytes())
        raw = exact_report(TeeFormat.TDX, path.read_bytes())
        assert raw == parsed.raw, path.name
        assert exact_report(TeeFormat.TDX, raw + bytes(999)) == raw
        assert bound_report_data(TeeFormat.TDX, raw) == parsed.report.report_data, path.name


V4 = b"\x04\0".ljust(48, b"\0") + bytes(584)
V5 = b"\x05\0".ljust(48, b"\0") + b"\x03\0" + (648).to_bytes(4, "little") + bytes(648)


@pytest.mark.parametrize("signed", [V4, V5])
def test_padding_goes_and_nothing_else(signed: bytes):  # evidence-production.md E115
    quote = signed + (7).to_bytes(4, "little") + b"1234567"
    assert exact_report(TeeFormat.TDX, quote + bytes(4096)) == quote
    with pytest.raises(MalformedOutblob, match="padding"):
        exact_report(TeeFormat.TDX, quote + b"\0\x01")


@pytest.mark.parametrize(
    "blob",
    [
        V4,
        V4 + (1).to_bytes(4, "little"),
        V4 + b"\xff" * 4,
        b"",
        V4[:53],
        V5[:48] + b"\x02" + V5[49:],
        V5[:48] + b"\x01\0" + V5[50:],
        b"\x06" + V4[1:],
        bytes(32 * 1024 + 1),
    ],
)
def test_a_quote_without_an_end_is_refused(blob: bytes):  # evidence-production.md E115
    with pytest.raises(MalformedOutblob):
        exact_report(TeeFormat.TDX, blob)


@given(st.sampled_from(TeeFormat), st.binary(max_size=2000))
def test_only_the_declared_refusal_leaves(report_format: TeeFormat, blob: bytes):
    with suppress(FormatRefused):
        assert len(bound_report_data(report_format, exact_report(report_format, blob))) == 64
