"""Invariant: whatever the bytes, a firmware image parses and measures, or is refused with LaunchRefused; what was
parsed lies inside the image, and each section apart from the others (measure.md M1 to M4, M9).
"""

from __future__ import annotations

from measurements.launch.errors import LaunchRefused
from measurements.launch.footer import Firmware
from measurements.launch.mrtd import PageOrder, mrtd
from measurements.launch.sev import KernelHashes, hash_table_address, sections
from measurements.launch.snp import SnpLaunch
from measurements.launch.tdvf import tdvf_sections
from tests.firmware import LittleFirmware, u32

_END_BYTES = 2304  # what the parsers read lies there
_WHOLE = LittleFirmware(pages=1, tdvf_sections=((0, 4096, 0xFFFFF000, 4096, 0, 1), (0, 0, 4096, 8192, 3, 0))).build()

SEEDS: list[bytes] = [
    b"",
    _WHOLE[-_END_BYTES:],
    LittleFirmware(pages=1, sev_sections=((0x810000, 0x1000, 16),), tdvf_sections=()).build()[-_END_BYTES:],
    LittleFirmware(pages=1, sev_head=b"ASEV" + u32(0xFFFFFFFF, 1, 0xFFFFFFFF)).build()[-_END_BYTES:],
    LittleFirmware(pages=1, tdvf_sections=((0xFFFFFFFF, 0xFFFFFFFF, 2**63, 2**63, 0, 3),)).build()[-_END_BYTES:],
]


def one_input(data: bytes) -> None:
    image = data[-4096:].rjust(4096, b"\0")
    try:
        firmware = Firmware.parse(image)
    except LaunchRefused:
        return
    assert firmware.address + len(image) == 1 << 32
    _sev(firmware)
    _tdvf(firmware)


def _sev(firmware: Firmware) -> None:
    try:
        found = sections(firmware)
        if sum(each.size for each in found) > 1 << 20:
            return  # measured page by page: sound, and too slow for here
        launch = SnpLaunch.of(firmware, None)
        assert len(launch.pages) == 48
        at = hash_table_address(firmware)
        assert any(each.address <= at < each.address + each.size for each in found)
        assert SnpLaunch.of(firmware, KernelHashes(bytes(32), bytes(32), bytes(32))).pages != launch.pages
    except LaunchRefused:
        return


def _tdvf(firmware: Firmware) -> None:
    try:
        found = tdvf_sections(firmware)
        if sum(each.memory_bytes for each in found) <= 1 << 20:
            assert len(mrtd(firmware, PageOrder.INTERLEAVED)) == 48
    except LaunchRefused:
        return
    assert all(each.content in firmware.image for each in found)
