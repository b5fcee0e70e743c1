"""AMD SEV-SNP attestation reports: 1184 bytes in, named fields out. Rules: docs/spec/evidence.md E1 to E9.

What it does not establish: anything. Every field is a claim of whoever sent the bytes until
`attestation.verify.snp` has checked the signature over them. The parser reads; it never writes a report
back, and the signature is checked over the bytes as they came (E8).
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, IntEnum
from typing import Final, Self

from attestation.errors import FormatRefused
from attestation.evidence.cursor import first_set

REPORT_BYTES: Final = 0x4A0
SIGNED_BYTES: Final = 0x2A0
SIGNATURE_COMPONENT_BYTES: Final = 72
VERSIONS: Final = frozenset({2, 3, 4, 5})
VERSION_WITH_CPUID: Final = 3
VERSION_WITH_MITIGATIONS: Final = 5

# evidence.md E3: (offset, length) of what must be zero in every version, and additionally in older ones.
RESERVED_ALWAYS: Final = ((0x04C, 4), (0x18B, 21), (0x1EB, 1), (0x1EF, 1), (0x208, 152))
RESERVED_WITHOUT_CPUID: Final = ((0x188, 3),)
RESERVED_WITHOUT_MITIGATIONS: Final = ((0x1F8, 16),)
UNSIGNED_TAIL: Final = (0x330, 368)  # E4: behind S, covered by no signature


class Product(Enum):
    """A family of processors with one root key and one layout of TCB versions."""

    MILAN = "Milan"
    GENOA = "Genoa"
    TURIN = "Turin"


class KeyKind(IntEnum):
    """Which key signed, as KEY_INFO encodes it."""

    VCEK = 0
    VLEK = 1
    NONE = 7


@dataclass(frozen=True, slots=True)
class Tcb:
    """Security patch levels. `fmc` exists from Turin on and is None before."""

    bootloader: int
    tee: int
    snp: int
    microcode: int
    fmc: int | None = None

    @classmethod
    def parse(cls, raw: bytes, product: Product) -> Self:
        """Eight bytes in the product's layout; a reserved byte that is set is refused (E6)."""
        if product is Product.TURIN:
            fmc, bootloader, tee, snp, *reserved, microcode = raw
        else:
            bootloader, tee, *reserved, snp, microcode = raw
            fmc = None
        if any(reserved):
            raise FormatRefused("snp.tcb.reserved", expected="zero", got=raw.hex())
        return cls(bootloader, tee, snp, microcode, fmc)

    def parts(self) -> tuple[int, ...]:
        """The levels, in an order fit for comparing part by part, never as one number."""
        return (self.fmc or 0, self.bootloader, self.tee, self.snp, self.microcode)

    def at_least(self, other: Tcb) -> bool:
        """No part is lower. Two versions may be unordered: neither is at least the other."""
        return all(mine >= theirs for mine, theirs in zip(self.parts(), other.parts(), strict=True))

    def __str__(self) -> str:
        first = "" if self.fmc is None else f"fmc {self.fmc} "
        return f"{first}bootloader {self.bootloader} tee {self.tee} snp {self.snp} microcode {self.microcode}"


@dataclass(frozen=True, slots=True, order=True)
class Firmware:
    """A build of the SEV firmware, ordered as its makers number it."""

    major: int
    minor: int
    build: int

    @classmethod
    def parse(cls, raw: bytes) -> Self:
        return cls(raw[2], raw[1], raw[0])

    def __str__(self) -> str:
        return f"{self.major}.{self.minor}.{self.build}"


@dataclass(frozen=True, slots=True)
class Cpuid:
    """Family, model and stepping of the processor that made the report (version 3 and later)."""

    family: int
    model: int
    stepping: int

    def __str__(self) -> str:
        return f"{self.family}/{self.model}/{self.stepping}"


@dataclass(frozen=True, slots=True)
class GuestPolicy:
    """POLICY: what the guest's owner let the host do. `raw` is kept for bits without a name."""

    raw: int

    KNOWN_MASK = 0x03FF_FFFF

    def _bit(self, number: int) -> bool:
        return bool(self.raw >> number & 1)

    @property
    def abi(self) -> tuple[int, int]:
        """The least ABI version (major, minor) the guest may run under."""
        return self.raw >> 8 & 0xFF, self.raw & 0xFF

    @property
    def smt(self) -> bool:
        return self._bit(16)

    @property
    def must_be_one(self) -> bool:
        return self._bit(17)

    @property
    def migration_agent(self) -> bool:
        return self._bit(18)

    @property
    def debug(self) -> bool:
        return self._bit(19)

    @property
    def single_socket(self) -> bool:
        return self._bit(20)

    @property
    def cxl(self) -> bool:
        return self._bit(21)

    @property
    def aes_256_xts(self) -> bool:
        return self._bit(22)

    @property
    def rapl_disabled(self) -> bool:
        return self._bit(23)

    @property
    def ciphertext_hiding(self) -> bool:
        return self._bit(24)

    @property
    def page_swap_disabled(self) -> bool:
        return self._bit(25)

    @property
    def unknown_bits(self) -> int:
        return self.raw & ~self.KNOWN_MASK


@dataclass(frozen=True, slots=True)
class PlatformInfo:
    """PLATFORM_INFO: how the host is set up. `raw` is kept for bits without a name."""

    raw: int

    KNOWN_MASK = 0xFF

    def _bit(self, number: int) -> bool:
        return bool(self.raw >> number & 1)

    @property
    def smt(self) -> bool:
        return self._bit(0)

    @property
    def tsme(self) -> bool:
        return self._bit(1)

    @property
    def ecc(self) -> bool:
        return self._bit(2)

    @property
    def rapl_disabled(self) -> bool:
        return self._bit(3)

    @property
    def ciphertext_hiding(self) -> bool:
        return self._bit(4)

    @property
    def alias_check_complete(self) -> bool:
        return self._bit(5)

    @property
    def iommu_write_safe(self) -> bool:
        return self._bit(6)

    @property
    def trusted_io(self) -> bool:
        return self._bit(7)

    @property
    def unknown_bits(self) -> int:
        return self.raw & ~self.KNOWN_MASK


@dataclass(frozen=True, slots=True)
class SnpReport:
    """One parsed report. TCB versions stay raw: their layout depends on the product, which only a
    verified chain tells (E6)."""

    raw: bytes
    version: int
    guest_svn: int
    policy: GuestPolicy
    family_id: bytes
    image_id: bytes
    vmpl: int
    signature_algorithm: int
    current_tcb: bytes
    platform: PlatformInfo
    author_key_enabled: bool
    chip_key_masked: bool
    key_kind: KeyKind
    report_data: bytes
    measurement: bytes
    host_data: bytes
    id_key_digest: bytes
    author_key_digest: bytes
    report_id: bytes
    report_id_ma: bytes
    reported_tcb: bytes
    cpuid: Cpuid | None
    chip_id: bytes
    committed_tcb: bytes
    current_firmware: Firmware
    committed_firmware: Firmware
    launch_tcb: bytes
    launch_mitigations: int | None
    current_mitigations: int | None

    @classmethod
    def parse(cls, raw: bytes) -> Self:
        """Raises `FormatRefused`, nothing else."""
        if len(raw) != REPORT_BYTES:
            raise FormatRefused("snp.report.size", expected=f"{REPORT_BYTES} bytes", got=f"{len(raw)} bytes")
        raw = bytes(raw)
        version = _uint(raw, 0x000, 4)
        if version not in VERSIONS:
            raise FormatRefused("snp.report.version", expected="2, 3, 4 or 5", got=version)
        _refuse_reserved(raw, version)
        key_info = _uint(raw, 0x048, 4)
        has_mitigations = version >= VERSION_WITH_MITIGATIONS
        return cls(
            raw=raw,
            version=version,
            guest_svn=_uint(raw, 0x004, 4),
            policy=GuestPolicy(_uint(raw, 0x008, 8)),
            family_id=raw[0x010:0x020],
            image_id=raw[0x020:0x030],
            vmpl=_uint(raw, 0x030, 4),
            signature_algorithm=_uint(raw, 0x034, 4),
            current_tcb=raw[0x038:0x040],
            platform=PlatformInfo(_uint(raw, 0x040, 8)),
            author_key_enabled=bool(key_info & 1),
            chip_key_masked=bool(key_info >> 1 & 1),
            key_kind=_key_kind(key_info),
            report_data=raw[0x050:0x090],
            measurement=raw[0x090:0x0C0],
            host_data=raw[0x0C0:0x0E0],
            id_key_digest=raw[0x0E0:0x110],
            author_key_digest=raw[0x110:0x140],
            report_id=raw[0x140:0x160],
            report_id_ma=raw[0x160:0x180],
            reported_tcb=raw[0x180:0x188],
            cpuid=Cpuid(raw[0x188], raw[0x189], raw[0x18A]) if version >= VERSION_WITH_CPUID else None,
            chip_id=raw[0x1A0:0x1E0],
            committed_tcb=raw[0x1E0:0x1E8],
            current_firmware=Firmware.parse(raw[0x1E8:0x1EB]),
            committed_firmware=Firmware.parse(raw[0x1EC:0x1EF]),
            launch_tcb=raw[0x1F0:0x1F8],
            launch_mitigations=_uint(raw, 0x1F8, 8) if has_mitigations else None,
            current_mitigations=_uint(raw, 0x200, 8) if has_mitigations else None,
        )

    @property
    def signed(self) -> bytes:
        """The bytes the signature covers, as they came (E8)."""
        return self.raw[:SIGNED_BYTES]

    @property
    def signature(self) -> tuple[bytes, bytes]:
        """R and S, little-endian, as they came."""
        end_of_r = SIGNED_BYTES + SIGNATURE_COMPONENT_BYTES
        return self.raw[SIGNED_BYTES:end_of_r], self.raw[end_of_r : end_of_r + SIGNATURE_COMPONENT_BYTES]


def _uint(raw: bytes, offset: int, size: int) -> int:
    return int.from_bytes(raw[offset : offset + size], "little")


def _refuse_reserved(raw: bytes, version: int) -> None:
    # evidence.md E3, E4: a reserved byte that is set means a layout we do not know, or a hidden channel.
    spans = [*RESERVED_ALWAYS, UNSIGNED_TAIL]
    if version < VERSION_WITH_CPUID:
        spans += RESERVED_WITHOUT_CPUID
    if version < VERSION_WITH_MITIGATIONS:
        spans += RESERVED_WITHOUT_MITIGATIONS
    for offset, length in spans:
        if raw.count(0, offset, offset + length) != length:
            raise FormatRefused(
                "snp.report.reserved",
                expected=f"{length} zero bytes at {offset:#05x}",
                got=first_set(raw[offset : offset + length], offset),
            )


def _key_kind(key_info: int) -> KeyKind:
    if key_info >> 5:
        raise FormatRefused("snp.report.key-info", expected="bits 5 to 31 zero", got=f"{key_info:#x}")
    try:
        return KeyKind(key_info >> 2 & 7)
    except ValueError:
        raise FormatRefused(
            "snp.report.key-info", expected="key 0 (VCEK), 1 (VLEK) or 7 (none)", got=key_info >> 2 & 7
        ) from None
