"""What a machine reports of the files it was started from, as one value with one encoding.

    SNP    the launch digest                    48 bytes
    TDX    MRTD, then RTMR0 to RTMR3           240 bytes

Manifests, grants, the decision log and audits name an image by these bytes. That a machine reported them is in verified
evidence.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, TypeAlias

from measurements.launch.errors import LaunchRefused

REGISTER_BYTES: Final = 48
RTMR_COUNT: Final = 4
TDX_BYTES: Final = (1 + RTMR_COUNT) * REGISTER_BYTES


@dataclass(frozen=True, slots=True)
class SnpLaunchDigest:
    """The launch digest in an SNP report. Raises `LaunchRefused` for another length."""

    digest: bytes

    def __post_init__(self) -> None:
        _check_register(self.digest)

    def encode(self) -> bytes:
        return self.digest

    def hex(self) -> str:
        return self.encode().hex()


@dataclass(frozen=True, slots=True)
class TdxRegisters:
    """MRTD and the four RTMRs in a TDX quote. Raises `LaunchRefused` for another length or number."""

    mr_td: bytes
    rtmrs: tuple[bytes, bytes, bytes, bytes]

    def __post_init__(self) -> None:
        for register in (self.mr_td, *self.rtmrs):
            _check_register(register)

    def encode(self) -> bytes:
        return self.mr_td + b"".join(self.rtmrs)

    def hex(self) -> str:
        return self.encode().hex()


LaunchMeasurement: TypeAlias = SnpLaunchDigest | TdxRegisters


def read_measurement(raw: bytes) -> LaunchMeasurement:
    """The measurement that has this encoding. Raises `LaunchRefused`, nothing else."""
    if len(raw) == REGISTER_BYTES:
        return SnpLaunchDigest(raw)
    if len(raw) == TDX_BYTES:
        mr_td, *rtmrs = (raw[at : at + REGISTER_BYTES] for at in range(0, TDX_BYTES, REGISTER_BYTES))
        return TdxRegisters(mr_td, (rtmrs[0], rtmrs[1], rtmrs[2], rtmrs[3]))
    expected = f"{REGISTER_BYTES} bytes (SNP) or {TDX_BYTES} (TDX)"
    raise LaunchRefused("launch.measurement", expected=expected, got=f"{len(raw)} bytes")


def _check_register(value: bytes) -> None:
    if len(value) != REGISTER_BYTES:
        expected = f"registers of {REGISTER_BYTES} bytes"
        raise LaunchRefused("launch.measurement", expected=expected, got=f"{len(value)} bytes")
