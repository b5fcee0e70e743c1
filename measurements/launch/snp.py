"""The launch digest of SEV-SNP: what a chip will sign as MEASUREMENT for these files. docs/spec/measure.md M6 to M8.

The two things that are easy to get subtly wrong, the chain over pages and the registers a processor starts with, are
`sev-snp-measure`'s, used on bytes; what is parsed here is ours, because that package trusts its input. Tests hold
the sum of both against the package's own whole path and against published digests.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import Enum
from types import MappingProxyType
from typing import Final, assert_never

from sevsnpmeasure.gctx import GCTX
from sevsnpmeasure.sev_mode import SevMode
from sevsnpmeasure.vcpu_types import CPU_SIGS
from sevsnpmeasure.vmm_types import VMMType
from sevsnpmeasure.vmsa import VMSA

from foundation.refusal import listed
from measurements.launch.errors import LaunchRefused
from measurements.launch.footer import Firmware
from measurements.launch.sev import KernelHashes, Section, SectionKind, reset_address, sections

VCPUS_MAX: Final = 512
SNP_ACTIVE: Final = 0x1
DEBUG_SWAP: Final = 0x20  # some hosts turn it on for every guest: then the digest is another
_FEATURES_MAX: Final = 1 << 64


class Vmm(Enum):
    """Who starts the machine: they prepare registers and pages a little differently."""

    QEMU = "qemu"
    EC2 = "ec2"
    GCE = "gce"


_THEIRS: Final = MappingProxyType({Vmm.QEMU: VMMType.QEMU, Vmm.EC2: VMMType.ec2, Vmm.GCE: VMMType.gce})


@dataclass(frozen=True, slots=True)
class Processors:
    """Every name QEMU has for processors of one signature: the digest depends on the signature alone."""

    signature: int
    types: tuple[str, ...]


def _processors() -> tuple[Processors, ...]:
    signatures = sorted(set(CPU_SIGS.values()))
    return tuple(
        Processors(signature, tuple(sorted(name for name, its in CPU_SIGS.items() if its == signature)))
        for signature in signatures
    )


PROCESSORS: Final = _processors()


def signature_of(vcpu_type: str) -> int:
    """M7: the signature QEMU gives a processor type."""
    found = CPU_SIGS.get(vcpu_type)
    if found is None:
        raise LaunchRefused("snp.vcpu-type", expected=f"one of {', '.join(sorted(CPU_SIGS))}", got=vcpu_type)
    return int(found)


@dataclass(frozen=True, slots=True)
class SnpLaunch:
    """A firmware image and, with a kernel handed to it, the digests of that: measured up to the processors."""

    firmware: Firmware
    vmm: Vmm
    pages: bytes

    @classmethod
    def of(cls, firmware: Firmware, hashes: KernelHashes | None, vmm: Vmm = Vmm.QEMU) -> SnpLaunch:
        """M6: the image, then the sections in their order. Raises `LaunchRefused` alone."""
        found = sections(firmware)
        if hashes is not None and not any(each.kind is SectionKind.KERNEL_HASHES for each in found):
            raise LaunchRefused(
                "snp.hashes",
                expected="a firmware that checks a kernel's digests",
                got=f"sections {listed({each.kind.name for each in found})}",
            )
        chain = GCTX()
        chain.update_normal_pages(firmware.address, firmware.image)
        for section in found:
            _measure(chain, section, firmware, hashes, vmm=vmm)
        if vmm is Vmm.EC2:
            for section in found:
                if section.kind is SectionKind.CPUID:
                    chain.update_cpuid_page(section.address)
        return cls(firmware, vmm, chain.ld())

    def digests(self, signature: int, guest_features: int, counts: Iterable[int]) -> Mapping[int, bytes]:
        """The digest for each number of processors. One chain: a machine with more begins as one with fewer."""
        wanted = sorted(set(counts))
        if not wanted or not 1 <= wanted[0] <= wanted[-1] <= VCPUS_MAX:
            raise LaunchRefused("snp.vcpus", expected=f"1 to {VCPUS_MAX} processors", got=wanted)
        if not 0 <= guest_features < _FEATURES_MAX or not guest_features & SNP_ACTIVE:
            raise LaunchRefused("snp.guest-features", expected="64 bits, the lowest set", got=f"{guest_features:#x}")
        reset = reset_address(self.firmware)
        chain = GCTX(self.pages)
        started = VMSA(SevMode.SEV_SNP, reset, signature, guest_features, _THEIRS[self.vmm])
        found: dict[int, bytes] = {}
        for number, page in enumerate(started.pages(wanted[-1]), start=1):
            chain.update_vmsa_page(page)
            if number in wanted:
                found[number] = chain.ld()
        return MappingProxyType(found)


def _measure(chain: GCTX, section: Section, firmware: Firmware, hashes: KernelHashes | None, *, vmm: Vmm) -> None:
    match section.kind:
        case SectionKind.MEMORY if vmm is Vmm.GCE:
            chain.update_unmeasured_pages(section.address, section.size)
        case SectionKind.MEMORY | SectionKind.SVSM_CALLS:
            chain.update_zero_pages(section.address, section.size)
        case SectionKind.SECRETS:
            chain.update_secrets_page(section.address)
        case SectionKind.CPUID:
            if vmm is not Vmm.EC2:
                chain.update_cpuid_page(section.address)
        case SectionKind.KERNEL_HASHES:
            if hashes is None:
                chain.update_zero_pages(section.address, section.size)
            else:
                chain.update_normal_pages(section.address, b"".join(hashes.pages(firmware, section)))
        case _:
            assert_never(section.kind)
