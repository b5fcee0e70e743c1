"""The simulated TEE as a cell sees it: `attestation.tee.tee.Tee`, over a simulated platform of either kind.

    platform = SimulatedSnp.create(seed, validity)
    tee = simulated_snp(platform, measurement)         # or simulated_tdx(platform, mrtd)
    evidence = tee.quote(report_data)                  # evidence.kind is TeeKind.SIMULATED_SNP
    bundle = identity_bundle(tee, nonce, keyset, config)

The kind says "simulated" wherever it is named: in the statement a quote binds, in the bundle, in an
appraisal. Relabelling it does not help: no genuine root signs what these platforms sign (E126, E127).
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass

from attestation.evidence.auxblob import CertificateTable, TableEntry
from attestation.evidence.bundle import EvidenceBundle
from attestation.evidence.keyset import Keyset
from attestation.evidence.kinds import Evidence, TeeKind
from attestation.report_data import Purpose, Statement, identity_report_data
from attestation.tee.errors import TeeRefused
from attestation.tee.tee import REPORT_DATA_BYTES
from devnet.sim_ccel import Measured, event_log
from devnet.sim_snp import ReportFields, SimulatedSnp
from devnet.sim_tdx import QuoteFields, SimulatedTdx


@dataclass(frozen=True, slots=True)
class SimulatedSnpTee:
    platform: SimulatedSnp
    fields: ReportFields

    @property
    def kind(self) -> TeeKind:
        return TeeKind.SIMULATED_SNP

    def quote(self, report_data: bytes) -> Evidence:
        report = self.platform.report(_checked(report_data), self.fields)
        return Evidence(self.kind, report, self.platform.auxblob())

    def endorsed(self, bundle: EvidenceBundle) -> EvidenceBundle:
        """`bundle` with the certificates and the list that a verifier needs."""
        table = CertificateTable.parse(self.platform.auxblob())
        certificates: dict[TableEntry, bytes] = dict(table.values)
        del certificates[TableEntry.CRL]
        return bundle.with_endorsements(certificates=certificates, crls=(self.platform.crl,))


@dataclass(frozen=True, slots=True)
class SimulatedTdxTee:
    platform: SimulatedTdx
    fields: QuoteFields
    log: bytes = b""

    @property
    def kind(self) -> TeeKind:
        return TeeKind.SIMULATED_TDX

    def quote(self, report_data: bytes) -> Evidence:
        return Evidence(self.kind, self.platform.quote(_checked(report_data), self.fields))

    def endorsed(self, bundle: EvidenceBundle) -> EvidenceBundle:
        """`bundle` with the collateral that a verifier needs, and the event log behind the registers."""
        return bundle.with_endorsements(collateral=collateral_json(self.platform), event_log=self.log)


SimulatedTee = SimulatedSnpTee | SimulatedTdxTee


def simulated_snp(platform: SimulatedSnp, measurement: bytes) -> SimulatedSnpTee:
    """A TEE that reports this launch measurement and otherwise a machine in good standing."""
    return SimulatedSnpTee(platform, ReportFields(measurement))


def simulated_tdx(
    platform: SimulatedTdx, mrtd: bytes, measured: Sequence[Measured] = (),
) -> SimulatedTdxTee:
    """A TEE that reports this MRTD, and registers that a log of `measured` leads to."""
    log, registers = event_log(measured)
    return SimulatedTdxTee(platform, QuoteFields(mrtd, registers), log if measured else b"")


def identity_bundle(
    tee: SimulatedTee, nonce: bytes, keyset: Keyset, measured_config: bytes,
) -> EvidenceBundle:
    """One file that says who this simulated cell is, over a caller's nonce, with all a verifier needs."""
    statement = Statement(Purpose.IDENTITY, tee.kind, nonce, keyset.digest, measured_config)
    evidence = tee.quote(identity_report_data(statement))
    return tee.endorsed(EvidenceBundle.identity(evidence, nonce, keyset, measured_config))


def collateral_json(platform: SimulatedTdx) -> bytes:
    """The collateral in the JSON form a quote verifier reads: bytes as hexadecimal."""
    fields = {
        name: value.hex() if isinstance(value, bytes) else value
        for name, value in platform.collateral.items()
    }
    return json.dumps(fields, separators=(",", ":")).encode()


def _checked(report_data: bytes) -> bytes:
    if len(report_data) != REPORT_DATA_BYTES:
        raise TeeRefused("report.data-length", expected=REPORT_DATA_BYTES, got=len(report_data))
    return report_data
