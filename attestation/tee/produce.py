"""What a cell hands out when it is asked who it is: a quote around a statement, as a bundle.

    identity(tee, nonce, keyset, measured_config)             to anyone, over a nonce of theirs
    release(tee, challenge, tee_public_key, keyset, ...)      to the broker, in answer to its challenge

One code path for hardware and for the simulated TEE. The host's certificate table goes along where it can be
read; where it cannot, the report goes without it, since a table proves nothing and a verifier may have a
better one (docs/spec/evidence-production.md E116). Nothing here decides whether anybody should believe it.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from dataclasses import replace

from attestation.errors import FormatRefused
from attestation.evidence.auxblob import CertificateTable, TableEntry
from attestation.evidence.evidence_bundle import (
    CERTIFICATE_BYTES_MAX,
    CRL_BYTES_MAX,
    DeviceEvidence,
    EvidenceBundle,
    ReleaseTranscript,
)
from attestation.evidence.keyset import Keyset
from attestation.evidence.kinds import Evidence, TeeFormat
from attestation.report_data import (
    Purpose,
    Statement,
    UnfitReportData,
    additional_evidence,
    devices_digest,
    identity_report_data,
    release_report_data,
)
from attestation.tee.tee import Tee
from foundation.refusal import shape
from measurements.digests import ConfigurationDigest


def identity(
    tee: Tee,
    nonce: bytes,
    keyset: Keyset,
    measured_config: ConfigurationDigest,
    *,
    devices: tuple[DeviceEvidence, ...] = (),
    event_log: bytes = b"",
) -> EvidenceBundle:
    """Who this cell is, over a caller's nonce. Raises `TeeRefused` or `UnfitReportData`.

    `devices` have signed `identity_device_nonce(nonce, keyset.digest)` beforehand.
    """
    statement = _statement(Purpose.IDENTITY, tee, nonce, keyset, measured_config=measured_config, devices=devices)
    evidence = tee.quote(identity_report_data(statement))
    return _bundle(evidence, statement, keyset, devices, event_log=event_log, sent=None)


def release(
    tee: Tee,
    challenge: str,
    tee_public_key: Mapping[str, str],
    keyset: Keyset,
    *,
    measured_config: ConfigurationDigest,
    devices: tuple[DeviceEvidence, ...] = (),
    event_log: bytes = b"",
    other_evidence: Mapping[str, str] | None = None,
) -> EvidenceBundle:
    """The answer to a broker's challenge, its nonce as it came: base64 text. Raises as `identity` does.

    `devices` have signed `release_device_nonce(challenge, tee_public_key)` beforehand; what a broker of the
    plain protocol wants of them goes into `other_evidence` under the names it expects.
    """
    try:
        nonce = base64.b64decode(challenge, validate=True)
    except (ValueError, binascii.Error):
        raise UnfitReportData("report-data.nonce", expected="a nonce in base64", got=shape(challenge)) from None
    statement = _statement(Purpose.RELEASE, tee, nonce, keyset, measured_config=measured_config, devices=devices)
    sent = ReleaseTranscript(challenge, dict(tee_public_key), additional_evidence(statement, other_evidence))
    evidence = tee.quote(release_report_data(sent.nonce, sent.tee_public_key, sent.additional_evidence))
    return _bundle(evidence, statement, keyset, devices, event_log=event_log, sent=sent)


def _statement(
    purpose: Purpose,
    tee: Tee,
    nonce: bytes,
    keyset: Keyset,
    *,
    measured_config: ConfigurationDigest,
    devices: tuple[DeviceEvidence, ...],
) -> Statement:
    reports = devices_digest([device.report for device in devices])
    return Statement(purpose, tee.kind, nonce, keyset.digest, measured_config, reports)


def _bundle(
    evidence: Evidence,
    statement: Statement,
    keyset: Keyset,
    devices: tuple[DeviceEvidence, ...],
    *,
    event_log: bytes,
    sent: ReleaseTranscript | None,
) -> EvidenceBundle:
    bundle = EvidenceBundle.identity(evidence, statement.nonce, keyset, statement.measured_config)
    bundle = replace(bundle, devices=devices, release=sent)
    if evidence.kind.format is TeeFormat.TDX:
        return replace(bundle, event_log=event_log)
    certificates, crls = _from_table(evidence.auxblob)
    return replace(bundle, certificates=certificates, crls=crls)


def _from_table(auxblob: bytes) -> tuple[dict[TableEntry, bytes], tuple[bytes, ...]]:
    """What the host laid beside the report, as far as a bundle has room for it."""
    try:
        values = dict(CertificateTable.parse(auxblob).values)
    except FormatRefused:
        return {}, ()
    crl = values.pop(TableEntry.CRL, b"")
    certificates = {entry: der for entry, der in values.items() if len(der) <= CERTIFICATE_BYTES_MAX}
    return certificates, (crl,) if 0 < len(crl) <= CRL_BYTES_MAX else ()
