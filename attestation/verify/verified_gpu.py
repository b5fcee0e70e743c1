"""What verification of GPU evidence hands on: facts a policy may judge, and no certificate.

Made in `attestation.verify.gpu` and `attestation.verify.gpu_rim` alone; see `attestation.verify.verified`
for what the seal is worth.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import Enum

from attestation.verify.verified import SEAL, Seal, TrustAnchor


class RimKind(Enum):
    DRIVER = "driver"
    VBIOS = "vbios"


@dataclass(frozen=True, slots=True)
class VerifiedRim:
    """A reference integrity manifest NVIDIA signed: allowed digests, by measurement index, of one version."""

    product: str
    version: str
    tag_id: str
    measurements: Mapping[int, frozenset[bytes]]
    seal: Seal = field(repr=False, compare=False)

    def __post_init__(self) -> None:
        if self.seal is not SEAL:
            raise TypeError("VerifiedRim is made by attestation.verify.gpu_rim alone")


@dataclass(frozen=True, slots=True)
class RimComparison:
    """A report held against its manifests: indices that match, differ, and that no manifest speaks of."""

    kinds: frozenset[RimKind]
    matched: frozenset[int]
    differing: frozenset[int]
    uncovered: frozenset[int]


@dataclass(frozen=True, slots=True)
class VerifiedGpu:
    """A report whose signature and chain hold at `verified_at`, made by a device NVIDIA certified.

    It says that this device's attestation key signed these measurements for `nonce`. It does not say that
    the measurements are good (`rims` does, where manifests were given), nor which machine the device is in:
    that is whether `nonce` was derived from what the CPU's own evidence binds.
    """

    root: TrustAnchor
    product: str
    device_id: bytes
    nonce: bytes
    driver_version: str
    vbios_version: str
    board: str
    firmware_id_bound: bool
    measurements: Mapping[int, bytes]
    rims: RimComparison | None
    verified_at: datetime
    signed_digest: bytes
    seal: Seal = field(repr=False, compare=False)

    def __post_init__(self) -> None:
        if self.seal is not SEAL:
            raise TypeError("VerifiedGpu is made by attestation.verify.gpu alone")
