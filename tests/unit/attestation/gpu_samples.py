"""A simulated NVIDIA device, manifests for it, and what is found in its reports and in them."""

from __future__ import annotations

from datetime import datetime

from attestation.evidence.gpu_report import GpuReport
from attestation.evidence.gpu_rim import GpuRim
from attestation.verify.gpu import compare_with_rims, verify_gpu_with_root_ca
from attestation.verify.gpu_rim import verify_rim
from attestation.verify.verified_gpu import VerifiedGpu, VerifiedRim
from measurements.reference import ReferenceValues
from tests.unit.attestation.forge_gpu import MEASUREMENTS, NONCE, Device, RimMaker
from tests.unit.attestation.forge_tdx import NOW

DEVICE = Device()
MAKER = RimMaker()
DRIVER = {n: (MEASUREMENTS[n],) for n in range(20)}
VBIOS = {n: (MEASUREMENTS[n],) for n in range(20, 40)}
BIOS_VERSION = "96.00.9f.00.02"


def judge(report: bytes, chain: bytes | None = None, at: datetime = NOW) -> VerifiedGpu:
    parsed = GpuReport.parse(report)
    return verify_gpu_with_root_ca(parsed, chain or DEVICE.chain(), at=at, root_spki=DEVICE.root.spki)


def rim(data: bytes, at: datetime = NOW) -> VerifiedRim:
    return verify_rim(GpuRim.parse(data), at=at, root_spki=MAKER.root.spki)


def compared(*manifests: bytes, report: bytes | None = None) -> VerifiedGpu:
    data = report or DEVICE.report()
    return compare_with_rims(judge(data), [rim(one) for one in manifests], GpuReport.parse(data))


REFERENCES = ReferenceValues.of({"gpu.nonce": [NONCE]})
