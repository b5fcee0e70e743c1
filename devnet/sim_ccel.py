"""An event log for a simulated trust domain, and the registers it leads to, in the firmware's own format."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass

SHA384, SHA384_BYTES = 0x000C, 48
EV_NO_ACTION, EV_EFI_ACTION = 0x00000003, 0x80000007
SPEC_ID = b"Spec ID Event03\0"


@dataclass(frozen=True, slots=True)
class Measured:
    """One measurement into RTMR `rtmr`; what is extended is the digest of `data`, and the kind says so."""

    rtmr: int
    data: bytes
    kind: int = EV_EFI_ACTION


def event_log(measurements: Iterable[Measured]) -> tuple[bytes, tuple[bytes, bytes, bytes, bytes]]:
    """The log in the TCG2 crypto-agile format, and the four registers after it."""
    registers = [bytes(SHA384_BYTES)] * 4
    log = _spec_id()
    for each in measurements:
        digest = hashlib.sha384(each.data).digest()
        registers[each.rtmr] = hashlib.sha384(registers[each.rtmr] + digest).digest()
        log += (
            _u32(each.rtmr + 1)
            + _u32(each.kind)
            + _u32(1)
            + SHA384.to_bytes(2, "little")
            + digest
            + _u32(len(each.data))
            + each.data
        )
    return log, (registers[0], registers[1], registers[2], registers[3])


def _spec_id() -> bytes:
    """The opening event, in the old layout: it announces SHA-384 and nothing else."""
    algorithms = SHA384.to_bytes(2, "little") + SHA384_BYTES.to_bytes(2, "little")
    event = SPEC_ID + _u32(0) + bytes([0, 2, 0, 2]) + _u32(1) + algorithms + b"\0"
    return _u32(1) + _u32(EV_NO_ACTION) + bytes(20) + _u32(len(event)) + event


def _u32(value: int) -> bytes:
    return value.to_bytes(4, "little")
