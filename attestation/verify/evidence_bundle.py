"""Does a bundle hold together? Its report is genuine, and binds the keys, configuration and nonce beside it.

The order is fixed (docs/spec/evidence-production.md E124): first the report, then the device reports, then
the bindings between them and the claims, then the nonce the caller asked for. So a forgery is called a
forgery, whatever else is wrong with it.

What it does not establish: that the values are wanted (`attestation.policy`); that a bundle is new, unless a
nonce was given; that a simulated root means anything.
"""

from __future__ import annotations

import hmac
from datetime import datetime
from typing import assert_never

from attestation.errors import BindingRefused, ChainRefused, CollateralMissing
from attestation.evidence.auxblob import TableEntry
from attestation.evidence.certificates import read_certificate
from attestation.evidence.event_log import parse_event_log
from attestation.evidence.evidence_bundle import DeviceEvidence, EvidenceBundle
from attestation.evidence.gpu_report import GpuReport
from attestation.evidence.gpu_rim import GpuRim
from attestation.evidence.kinds import TeeFormat
from attestation.evidence.quoted import Quoted
from attestation.evidence.snp_report import Product, SnpReport
from attestation.evidence.tdx_collateral import TdxCollateral
from attestation.evidence.tdx_quote import TdxQuote
from attestation.report_data import (
    Purpose,
    Statement,
    UnfitReportData,
    carried_statement,
    devices_digest,
    identity_device_nonce,
    identity_report_data,
    release_device_nonce,
    release_report_data,
)
from attestation.verify.ec_chain import spki_digest
from attestation.verify.event_log import verify_event_log
from attestation.verify.gpu import compare_with_rims, verify_gpu
from attestation.verify.gpu_rim import verify_rim
from attestation.verify.pins import AMD_ROOTS, SnpRoots, with_simulated
from attestation.verify.snp import SnpCollateral, SnpEvidence, product_of, verify_snp
from attestation.verify.tdx import verify_tdx, verify_tdx_with_root_ca
from attestation.verify.verified import SEAL, VerifiedMachine, VerifiedSnp
from attestation.verify.verified_bundle import VerifiedBundle
from attestation.verify.verified_gpu import VerifiedGpu
from attestation.verify.verified_tdx import VerifiedTdx
from foundation.refusal import difference, shown


def verify_bundle(
    bundle: EvidenceBundle, *, at: datetime, nonce: bytes | None = None, simulated_root: bytes | None = None
) -> VerifiedBundle:
    """Raises `FormatRefused`, `NotGenuine` or `CollateralMissing`, whichever comes first in the order above.

    `simulated_root` is the certificate (DER) of a simulated root to believe as well. What ends in it says so,
    and is refused by every policy that does not name its key.
    """
    evidence = _evidence(bundle, at, simulated_root)
    devices = tuple(_device(device, at) for device in bundle.devices)
    _check_kind(bundle, evidence)
    statement = _bound_statement(bundle)
    report_data = _check_report_data(bundle, statement, evidence)
    device_nonce = _check_devices(bundle, devices)
    if nonce is not None and not hmac.compare_digest(nonce, bundle.nonce):
        raise BindingRefused("bundle.nonce", expected=nonce.hex(), got=bundle.nonce.hex())
    return VerifiedBundle(evidence, devices, statement, bundle.keyset, report_data, device_nonce, SEAL)


def verify_quoted(
    quoted: Quoted, report_data: bytes, *, at: datetime, simulated_root: bytes | None = None
) -> VerifiedSnp | VerifiedTdx:
    """A report without a bundle around it: genuine, of its kind, and over exactly `report_data`.

    For a client of the key broker protocol that has no keyset to bind (docs/spec/key-release.md R9). Raises as
    `verify_bundle` does.
    """
    evidence = _evidence(quoted, at, simulated_root)
    _check_kind(quoted, evidence)
    _check_over(report_data, evidence)
    return evidence


def _evidence(bundle: EvidenceBundle | Quoted, at: datetime, simulated_root: bytes | None) -> VerifiedSnp | VerifiedTdx:
    match bundle.kind.format:
        case TeeFormat.SNP:
            return _snp(bundle, at, simulated_root)
        case TeeFormat.TDX:
            return _tdx(bundle, at, simulated_root)
        case _:
            assert_never(bundle.kind.format)


def _snp(bundle: EvidenceBundle | Quoted, at: datetime, simulated_root: bytes | None) -> VerifiedSnp:
    vek = bundle.certificates.get(TableEntry.VCEK) or bundle.certificates.get(TableEntry.VLEK)
    if vek is None:
        raise CollateralMissing("bundle.vek", expected="the certificate of the signing key", got="none")
    evidence = SnpEvidence.parse(bundle.report, vek)
    issuers = [der for entry, der in bundle.certificates.items() if entry in (TableEntry.ASK, TableEntry.ARK)]
    roots = _snp_roots(evidence.report, simulated_root)
    return verify_snp(evidence, SnpCollateral.parse(issuers, bundle.crls), at=at, roots=roots)


def _snp_roots(report: SnpReport, simulated_root: bytes | None) -> SnpRoots:
    """AMD's, and the one handed over for the product the report names; the chain has to agree with it."""
    if simulated_root is None:
        return AMD_ROOTS
    product = product_of(report.cpuid) if report.cpuid else Product.GENOA
    if product is None:
        raise ChainRefused("bundle.product", expected="a product with roots of its own", got=shown(report.cpuid))
    spki = spki_digest(read_certificate(simulated_root))
    try:
        return with_simulated([("a simulated root", product, spki)])
    except ValueError:
        raise ChainRefused("bundle.simulated-root", expected="a root not of AMD's", got="AMD's") from None


def _tdx(bundle: EvidenceBundle | Quoted, at: datetime, simulated_root: bytes | None) -> VerifiedTdx:
    quote = TdxQuote.parse(bundle.report)
    collateral = TdxCollateral.parse(bundle.collateral) if bundle.collateral else None
    if simulated_root is not None and bundle.kind.simulated:
        verified = verify_tdx_with_root_ca(quote, collateral, at=at, root_der=simulated_root)
    else:
        verified = verify_tdx(quote, collateral, at=at)
    if not bundle.event_log:
        return verified
    return verify_event_log(parse_event_log(bundle.event_log), verified)


def _device(device: DeviceEvidence, at: datetime) -> VerifiedGpu:
    report = GpuReport.parse(device.report)
    manifests = [GpuRim.parse(raw) for raw in device.manifests]
    verified = verify_gpu(report, device.chain, at=at)
    if not manifests:
        return verified
    return compare_with_rims(verified, [verify_rim(manifest, at=at) for manifest in manifests], report)


def _check_kind(bundle: EvidenceBundle | Quoted, evidence: VerifiedMachine) -> None:
    # E126: a simulated platform cannot pass as hardware by its label, nor hardware as simulated.
    if bundle.kind.simulated is not evidence.root.simulated:
        expected = "a simulated root" if bundle.kind.simulated else "a hardware root"
        raise BindingRefused(
            "bundle.kind",
            expected=f"{expected} for {bundle.kind.value}",
            got="a hardware root" if bundle.kind.simulated else "a simulated root",
        )


def _bound_statement(bundle: EvidenceBundle) -> Statement:
    """What the report has to bind, made from the claims; for a release, with what the client sent."""
    purpose = Purpose.IDENTITY if bundle.release is None else Purpose.RELEASE
    try:
        statement = Statement(
            purpose,
            bundle.kind,
            bundle.nonce,
            bundle.keyset.digest,
            bundle.measured_config,
            devices_digest([device.report for device in bundle.devices]),
        )
        if bundle.release is None:
            return statement
        carried = carried_statement(bundle.release.additional_evidence, bundle.release.nonce)
    except UnfitReportData as refusal:
        raise BindingRefused(refusal.code, expected=refusal.expected, got=refusal.got) from refusal
    if carried != statement:
        raise BindingRefused(
            "bundle.statement", expected="the bundle's own claims", got=difference(carried.encode(), statement.encode())
        )
    return statement


def _check_report_data(bundle: EvidenceBundle, statement: Statement, evidence: VerifiedMachine) -> bytes:
    if bundle.release is None:
        expected = identity_report_data(statement)
    else:
        sent = bundle.release
        expected = release_report_data(sent.nonce, sent.tee_public_key, sent.additional_evidence)
    _check_over(expected, evidence)
    return expected


def _check_over(report_data: bytes, evidence: VerifiedMachine) -> None:
    if not hmac.compare_digest(report_data, evidence.report_data):
        raise BindingRefused("bundle.report-data", expected=report_data.hex(), got=evidence.report_data.hex())


def _check_devices(bundle: EvidenceBundle, devices: tuple[VerifiedGpu, ...]) -> bytes:
    """E121: every device answered this challenge, and none of them twice."""
    if bundle.release is None:
        expected = identity_device_nonce(bundle.nonce, bundle.keyset.digest)
    else:
        expected = release_device_nonce(bundle.release.nonce, bundle.release.tee_public_key)
    for device in devices:
        if not hmac.compare_digest(device.nonce, expected):
            raise BindingRefused("bundle.device-nonce", expected=expected.hex(), got=device.nonce.hex())
    if len({device.device_id for device in devices}) != len(devices):
        raise BindingRefused(
            "bundle.device-twice",
            expected="each device once",
            got=f"{len(devices)} devices with {len({device.device_id for device in devices})} ids",
        )
    return expected
