"""Invariant: whatever the bytes, a program is hashed or refused with LaunchRefused; where it is hashed, checksum and
certificates have no part in it, and any other byte has (measure.md M12).
"""

from __future__ import annotations

from measurements.launch.authenticode import authenticode
from measurements.launch.errors import LaunchRefused
from tests.firmware import LittleProgram

SEEDS: list[bytes] = [
    b"",
    b"MZ" + bytes(62),
    LittleProgram().build(),
    LittleProgram(certificates=bytes(64)).build(),
    LittleProgram(sections=((512, 64),), behind=b"more", certificates=b"\1" * 8).build(),
    LittleProgram(sections=((576, 64), (512, 64))).build(),
    LittleProgram(sections=((512, 64), (512, 64))).build(),
]


def one_input(data: bytes) -> None:
    try:
        digest = authenticode(data)
    except LaunchRefused:
        return
    assert len(digest) == 48
    header = int.from_bytes(data[0x3C:0x40], "little")
    checksum = header + 24 + 64
    other = bytearray(data)
    other[checksum : checksum + 4] = b"\xaa\x55\xaa\x55"
    assert authenticode(bytes(other)) == digest
