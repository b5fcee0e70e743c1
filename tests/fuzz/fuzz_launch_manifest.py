"""Invariant: whatever the bytes, a launch manifest parses or is refused with LaunchRefused, and what parses is written
with exactly the bytes it was read from (measure.md M19).
"""

from __future__ import annotations

from measurements.launch.errors import LaunchRefused
from measurements.launch.launch_manifest import LaunchManifest, joined, measure_snp, measure_tdx
from tests.firmware import LittleFirmware, LittleProgram

_FILES = (LittleProgram().build(), b"initrd", "console=ttyS0")
_SNP = measure_snp(LittleFirmware().build(), *_FILES, counts=(1,), features=(1,))
_TDX = measure_tdx(LittleFirmware().build(), *_FILES)

SEEDS: list[bytes] = [
    b"",
    b"{}",
    b"[" * 3000,
    b'{"launch":1,"launch":1}',
    _SNP.encode(),
    _TDX.encode(),
    joined(_SNP, _TDX).encode(),
    _SNP.encode().replace(b":1,", b":1.0,"),
    _SNP.encode() + b"\n",
]


def one_input(data: bytes) -> None:
    try:
        manifest = LaunchManifest.parse(data)
    except LaunchRefused:
        return
    assert manifest.encode() == data
