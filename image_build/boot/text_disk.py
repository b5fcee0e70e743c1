"""The files as they are handed over: read once, before anything starts, and hashed as the firmware will hash them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

from image_build.boot.plan import BootRefused, Image, Table
from measurements.launch.footer import Firmware
from measurements.launch.sev import KernelHashes, hash_table_address
from measurements.launch.snp import SNP_ACTIVE, SnpLaunch, signature_of

NO_INITRD: Final = b""  # its digest is in the table all the same, and the firmware holds what comes against it


@dataclass(frozen=True, slots=True)
class Handed:
    """J3: the firmware and the table of digests that the machine starts with. The kernel's bytes are in neither: the
    firmware holds them against the table, and that is what makes the table worth measuring."""

    firmware: Firmware
    hashes: KernelHashes

    @classmethod
    def of(cls, firmware: Path, image: Image) -> Self:
        """Raises `LaunchRefused` for a firmware that is none, OSError for a file that is not there."""
        hashes = KernelHashes.of(image.kernel.read_bytes(), NO_INITRD, image.cmdline)
        return cls(Firmware.parse(firmware.read_bytes()), hashes)

    def write_table(self, path: Path) -> Table:
        path.write_bytes(self.hashes.table())
        return Table(path, hash_table_address(self.firmware))

    def measurement(self, vcpu_type: str, vcpus: int, guest_features: int = SNP_ACTIVE) -> bytes:
        """What a chip would sign for a machine started with this firmware and this table."""
        launch = SnpLaunch.of(self.firmware, self.hashes)
        return launch.digests(signature_of(vcpu_type), guest_features, [vcpus])[vcpus]


def disk_of_text(text: bytes) -> bytes:
    """As a disk that a guest reads up to the zeros behind it: whole sectors."""
    if b"\0" in text:
        raise BootRefused("disk", expected="a text", got="zeros in it")
    return text + bytes(-len(text) % 512)
