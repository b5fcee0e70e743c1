"""What verification hands on: the facts a policy may judge, and no certificate.

These types are made in `attestation.verify` alone. Each carries a seal that only this room hands out, so
that a parsed report cannot be passed off as a verified one by mistake. Python cannot stop somebody who
means to forge one inside the same process; the seal stops an accident and shows up in review.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from enum import Enum
from typing import Final, Protocol

from attestation.evidence.kinds import TeeFormat
from attestation.evidence.snp_report import Cpuid, Firmware, GuestPolicy, KeyKind, PlatformInfo, Product, Tcb
from measurements.launch.measurement import LaunchMeasurement, SnpLaunchDigest


class Seal:
    """Proof that a value was made in `attestation.verify`."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "<sealed by attestation.verify>"


SEAL: Final = Seal()


class Revocation(Enum):
    """What is known about revocation at the stated time."""

    FRESH = "a fresh list covers the chain and names no certificate of it"
    UNKNOWN = "no list was given"


@dataclass(frozen=True, slots=True)
class TrustAnchor:
    """The pinned root a chain ended in, by the digest of its public key."""

    name: str
    spki_sha256: bytes
    simulated: bool


class VerifiedMachine(Protocol):
    """What every verified quote says, whatever the technology: who reads only this needs to know no more.

    The seal keeps it to values that `attestation.verify` made.
    """

    @property
    def format(self) -> TeeFormat: ...
    @property
    def root(self) -> TrustAnchor: ...
    @property
    def verified_at(self) -> datetime: ...
    @property
    def launch(self) -> LaunchMeasurement:
        """What the machine was started from."""

    @property
    def report_data(self) -> bytes:
        """The 64 bytes that whoever asked for the quote chose."""

    @property
    def chip(self) -> bytes | None:
        """The machine, by the name its manufacturer gave it; None where nothing names it."""

    @property
    def debug(self) -> bool:
        """Whether the host may read the machine's memory."""

    @property
    def tcb_words(self) -> str:
        """How well patched the platform is, for people."""

    @property
    def seal(self) -> Seal: ...


@dataclass(frozen=True, slots=True)
class VerifiedSnp:
    """An SNP report whose signature, chain and bindings hold at `verified_at`.

    It says that an AMD secure processor holding this chip's (or this provider's) endorsement key made the
    report. It does not say that the values are wanted, nor that the report is new: freshness is whether
    `report_data` holds what the relying party chose. `body_digest` covers the signed bytes alone: the
    signature itself is malleable, so nothing may be remembered or matched by a digest of the whole report.
    """

    root: TrustAnchor
    product: Product
    key: KeyKind
    csp_id: str | None
    version: int
    guest_svn: int
    policy: GuestPolicy
    family_id: bytes
    image_id: bytes
    vmpl: int
    current_tcb: Tcb
    reported_tcb: Tcb
    committed_tcb: Tcb
    launch_tcb: Tcb
    platform: PlatformInfo
    author_key_enabled: bool
    report_data: bytes
    measurement: bytes
    host_data: bytes
    id_key_digest: bytes
    author_key_digest: bytes
    report_id: bytes
    report_id_ma: bytes
    cpuid: Cpuid | None
    chip_id: bytes | None  # as the report says it; None: masked
    hwid: bytes | None  # as the certificate of a VCEK says it; a VLEK's names none
    current_firmware: Firmware
    committed_firmware: Firmware
    launch_mitigations: int | None
    current_mitigations: int | None
    revocation: Revocation
    revocation_until: datetime | None
    verified_at: datetime
    valid_until: datetime
    body_digest: bytes
    seal: Seal = field(repr=False, compare=False)

    def __post_init__(self) -> None:
        if self.seal is not SEAL:
            raise TypeError("VerifiedSnp is made by attestation.verify.snp alone")

    @property
    def chip(self) -> bytes | None:
        """E49: the chip that signed, whatever the report hides; None where a VLEK signed and the report is masked."""
        return self.hwid or self.chip_id

    @property
    def format(self) -> TeeFormat:
        return TeeFormat.SNP

    @property
    def launch(self) -> SnpLaunchDigest:
        return SnpLaunchDigest(self.measurement)

    @property
    def debug(self) -> bool:
        return self.policy.debug

    @property
    def tcb_words(self) -> str:
        return f"reported {self.reported_tcb}, launched with {self.launch_tcb}"
