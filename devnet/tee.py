"""The simulated TEE as a cell sees it: `attestation.tee.tee.Tee`, over a simulated platform of either kind.

    platform = SimulatedSnp.create(seed, validity)
    tee = simulated_snp(platform, measurement)         # or simulated_tdx(platform, mrtd)
    evidence = tee.quote(report_data)                  # evidence.kind is TeeKind.SIMULATED_SNP
    bundle = identity_bundle(tee, nonce, keyset, config)
    verified = verify_bundle(bundle, at=at, nonce=nonce, simulated_root=tee.root.der)
    policy = document.parse(policy_document(tee))
    appraise_bundle(verified, reference_values(tee), policy, nonce=nonce).accepted      # True

The kind says "simulated" wherever it is named: in the statement a quote binds, in the bundle, in an
appraisal. Relabelling it does not help: no genuine root signs what these platforms sign (E126, E127).
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from attestation.evidence.evidence_bundle import EvidenceBundle
from attestation.evidence.keyset import Keyset
from attestation.evidence.kinds import Evidence, TeeKind
from attestation.tee.errors import TeeRefused
from attestation.tee.produce import identity, release
from attestation.tee.tee import REPORT_DATA_BYTES
from attestation.verify.ec_chain import spki_digest
from devnet.pki import Authority
from devnet.sim_ccel import Measured, event_log
from devnet.sim_snp import ReportFields, SimulatedSnp
from devnet.sim_tdx import QuoteFields, SimulatedTdx
from measurements.digests import ConfigurationDigest
from measurements.reference import ReferenceValues


@dataclass(frozen=True, slots=True)
class SimulatedSnpTee:
    """Lays its certificates and its revocation list beside every report, as a host may."""

    platform: SimulatedSnp
    fields: ReportFields

    @property
    def kind(self) -> TeeKind:
        return TeeKind.SIMULATED_SNP

    @property
    def root(self) -> Authority:
        return self.platform.ark

    def quote(self, report_data: bytes) -> Evidence:
        report = self.platform.report(_checked(report_data), self.fields)
        return Evidence(self.kind, report, self.platform.auxblob())


@dataclass(frozen=True, slots=True)
class SimulatedTdxTee:
    """Its quotes carry their certificates; collateral comes from `collateral_json`, as from a service."""

    platform: SimulatedTdx
    fields: QuoteFields
    log: bytes = b""

    @property
    def kind(self) -> TeeKind:
        return TeeKind.SIMULATED_TDX

    @property
    def root(self) -> Authority:
        return self.platform.root

    def quote(self, report_data: bytes) -> Evidence:
        return Evidence(self.kind, self.platform.quote(_checked(report_data), self.fields))


SimulatedTee = SimulatedSnpTee | SimulatedTdxTee


def simulated_snp(platform: SimulatedSnp, measurement: bytes) -> SimulatedSnpTee:
    """A TEE that reports this launch measurement and otherwise a machine in good standing."""
    return SimulatedSnpTee(platform, ReportFields(measurement))


def simulated_tdx(platform: SimulatedTdx, mrtd: bytes, measured: Sequence[Measured] = ()) -> SimulatedTdxTee:
    """A TEE that reports this MRTD, and registers that a log of `measured` leads to."""
    log, registers = event_log(measured)
    return SimulatedTdxTee(platform, QuoteFields(mrtd, registers), log if measured else b"")


def endorsed(bundle: EvidenceBundle, tee: SimulatedTee) -> EvidenceBundle:
    """`bundle` with what its verifier needs and the cell does not have: the collateral of a TDX platform."""
    if isinstance(tee, SimulatedSnpTee):
        return bundle
    return replace(bundle, collateral=collateral_json(tee.platform))


def identity_bundle(
    tee: SimulatedTee, nonce: bytes, keyset: Keyset, measured_config: ConfigurationDigest
) -> EvidenceBundle:
    """One file that says who this simulated cell is, over a caller's nonce, with all a verifier needs."""
    return endorsed(identity(tee, nonce, keyset, measured_config, event_log=_log(tee)), tee)


def release_bundle(
    tee: SimulatedTee,
    challenge: str,
    tee_public_key: Mapping[str, str],
    keyset: Keyset,
    *,
    measured_config: ConfigurationDigest,
) -> EvidenceBundle:
    """One file that answers a broker's challenge for this simulated cell, with all the broker needs."""
    bundle = release(tee, challenge, tee_public_key, keyset, measured_config=measured_config, event_log=_log(tee))
    return endorsed(bundle, tee)


def policy_document(tee: SimulatedTee) -> bytes:
    """The strict policy, except that it names the root of this devnet. For a devnet and for nothing else."""
    section = "snp" if isinstance(tee, SimulatedSnpTee) else "tdx"
    return (
        'name = "devnet"\n'
        'about = "simulated machines of one devnet: says nothing about any hardware"\n'
        'extends = "strict"\n\n'
        f'[{section}]\nsimulated_roots = ["{spki_digest(tee.root.certificate).hex()}"]\n'
    ).encode()


def reference_values(tee: SimulatedTee) -> ReferenceValues:
    """What this simulated machine reports of itself: its measurements, and which machine it is."""
    if isinstance(tee, SimulatedSnpTee):
        return ReferenceValues.of(
            {"snp.measurement": [tee.fields.measurement], "snp.chip_id": [tee.platform.hardware_id]}
        )
    registers = {f"tdx.rtmr{number}": [rtmr] for number, rtmr in enumerate(tee.fields.rtmrs)}
    return ReferenceValues.of({"tdx.mr_td": [tee.fields.mrtd], "tdx.ppid": [tee.platform.ppid], **registers})


def collateral_json(platform: SimulatedTdx) -> bytes:
    """The collateral in the JSON form a quote verifier reads: bytes as hexadecimal."""
    fields = {name: value.hex() if isinstance(value, bytes) else value for name, value in platform.collateral.items()}
    return json.dumps(fields, separators=(",", ":")).encode()


def _checked(report_data: bytes) -> bytes:
    if len(report_data) != REPORT_DATA_BYTES:
        raise TeeRefused("report.data-length", expected=REPORT_DATA_BYTES, got=len(report_data))
    return report_data


def _log(tee: SimulatedTee) -> bytes:
    return tee.log if isinstance(tee, SimulatedTdxTee) else b""
