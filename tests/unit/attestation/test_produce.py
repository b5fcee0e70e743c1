"""What a cell hands out: the same bundle from either TEE, and a host's table that cannot get in the way."""

from __future__ import annotations

import base64

import pytest

from attestation.evidence.auxblob import TableEntry, encode_table
from attestation.evidence.evidence_bundle import DeviceEvidence, EvidenceBundle
from attestation.evidence.kinds import Evidence, TeeKind
from attestation.evidence.snp_report import SnpReport
from attestation.report_data import (
    Purpose,
    UnfitReportData,
    carried_statement,
    devices_digest,
    identity_report_data,
    release_report_data,
)
from attestation.tee.produce import identity, release
from tests.little_tee import CONFIG, KEYSET, NONCE, snp_tee, tdx_tee

CHALLENGE = base64.b64encode(NONCE).decode()
KEY = {"kty": "EC", "crv": "P-256", "x": "AAAA", "y": "BBBB"}
DEVICE = DeviceEvidence(b"report", b"chain")
BIG = b"\x30\x82\x3f\xfc" + bytes(0x3FFC)  # one DER sequence, larger than a bundle carries


class HostsTable:
    """A simulated chip beside which the host lays whatever it likes."""

    kind = TeeKind.SIMULATED_SNP

    def __init__(self, auxblob: bytes) -> None:
        self.auxblob = auxblob

    def quote(self, report_data: bytes) -> Evidence:
        return Evidence(self.kind, snp_tee().quote(report_data).report, self.auxblob)


def test_identity_is_a_quote_over_its_statement():
    bundle = identity(snp_tee(), NONCE, KEYSET, CONFIG, devices=(DEVICE,))
    assert set(bundle.certificates) == {TableEntry.VCEK, TableEntry.ASK, TableEntry.ARK}
    assert len(bundle.crls) == 1
    assert bundle.devices == (DEVICE,)
    assert EvidenceBundle.parse(bundle.encode()) == bundle
    assert bundle.release is None


def test_the_devices_shown_are_bound():  # evidence-production.md E121
    with_device = identity(snp_tee(), NONCE, KEYSET, CONFIG, devices=(DEVICE,))
    without = identity(snp_tee(), NONCE, KEYSET, CONFIG)
    assert SnpReport.parse(with_device.report).report_data != SnpReport.parse(without.report).report_data


def test_release_carries_the_handshake_as_it_was_sent():  # evidence-production.md E120, E121
    others = {"nvidia": "x"}
    bundle = release(
        snp_tee(), CHALLENGE, KEY, KEYSET, measured_config=CONFIG, devices=(DEVICE,), other_evidence=others
    )
    sent = bundle.release
    assert sent is not None
    statement = carried_statement(sent.additional_evidence, CHALLENGE)
    assert (statement.purpose, statement.kind) == (Purpose.RELEASE, TeeKind.SIMULATED_SNP)
    assert statement.devices == devices_digest([b"report"])
    expected = release_report_data(CHALLENGE, KEY, sent.additional_evidence)
    assert SnpReport.parse(bundle.report).report_data == expected
    assert '"nvidia":"x"' in sent.additional_evidence


def test_a_quote_goes_with_the_log_of_its_start():
    tee = tdx_tee()
    bundle = identity(tee, NONCE, KEYSET, CONFIG, event_log=tee.log)
    assert (bundle.event_log, bundle.certificates, bundle.crls) == (tee.log, {}, ())


@pytest.mark.parametrize("auxblob", [b"", bytes(24), b"garbage", b"\xff" * 4096, bytes(40_000)])
def test_a_table_that_cannot_be_read_is_left_out(auxblob: bytes):  # evidence-production.md E116
    bundle = identity(HostsTable(auxblob), NONCE, KEYSET, CONFIG)
    assert (bundle.certificates, bundle.crls) == ({}, ())
    assert EvidenceBundle.parse(bundle.encode()) == bundle


def test_a_value_a_bundle_has_no_room_for_is_left_out():
    table = encode_table({TableEntry.VCEK: BIG, TableEntry.ASK: b"\x30\x00"})
    bundle = identity(HostsTable(table), NONCE, KEYSET, CONFIG)
    assert bundle.certificates == {TableEntry.ASK: b"\x30\x00"}
    assert EvidenceBundle.parse(bundle.encode()) == bundle


@pytest.mark.parametrize("challenge", ["", "é", "not base64!", base64.b64encode(bytes(31)).decode()])
def test_a_challenge_that_is_none(challenge: str):
    with pytest.raises(UnfitReportData):
        release(snp_tee(), challenge, KEY, KEYSET, measured_config=CONFIG)


def test_the_data_of_an_identity_quote_is_that_of_its_statement():  # evidence-production.md E118, E119
    from attestation.report_data import Statement

    bundle = identity(snp_tee(), NONCE, KEYSET, CONFIG)
    statement = Statement(Purpose.IDENTITY, TeeKind.SIMULATED_SNP, NONCE, KEYSET.digest, CONFIG)
    assert SnpReport.parse(bundle.report).report_data == identity_report_data(statement)
