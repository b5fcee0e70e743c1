"""Which events a trust domain's boot will log, and the registers they lead to. docs/spec/measure.md M13 to M16.

What can be foreseen from the files alone is foreseen, for one way to boot: the kernel and initrd handed to the firmware
(`-kernel`, `-initrd`, `-append`). What depends on the machine around them is left to the replay of its event log, and
says so.

Not established here: that a firmware logs in this order. The order is that of edk2's, and one published log of a
trust domain started this way agrees with it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Final

from measurements.launch.authenticode import authenticode
from measurements.launch.sev import cmdline_bytes

DIGEST_BYTES: Final = 48
REGISTERS: Final = 4
EV_SEPARATOR: Final = 0x00000004
EV_EVENT_TAG: Final = 0x00000006
EV_EFI_BOOT_SERVICES_APPLICATION: Final = 0x80000003
EV_EFI_ACTION: Final = 0x80000007

_INITRD_OPTION: Final = " initrd=initrd"  # what the firmware adds where it has an initrd to hand on
_CALLING: Final = b"Calling EFI Application from Boot Option"
_LEAVING: Final = b"Exit Boot Services Invocation"
_LEFT: Final = b"Exit Boot Services Returned with Success"


class JudgedBy(Enum):
    PREDICTION = "prediction"
    EVENT_LOG = "event-log"


@dataclass(frozen=True, slots=True)
class PredictedEvent:
    kind: int
    digest: bytes
    what: str


@dataclass(frozen=True, slots=True)
class Register:
    """One RTMR: foreseen, with the events that make it, or left to the log, with the reason."""

    judged_by: JudgedBy
    about: str
    events: tuple[PredictedEvent, ...] = ()

    @property
    def value(self) -> bytes | None:
        return replayed(event.digest for event in self.events) if self.judged_by is JudgedBy.PREDICTION else None


def predicted_registers(kernel: bytes, initrd: bytes, cmdline: str) -> tuple[Register, Register, Register, Register]:
    """For a kernel handed to the firmware as it is. Raises `LaunchRefused` alone."""
    return (
        Register(
            JudgedBy.EVENT_LOG,
            "hand-off block, Secure Boot variables, ACPI tables, boot order: depends on "
            "memory, processors, devices and the version of the machine's manager",
        ),
        Register(
            JudgedBy.PREDICTION,
            "holds where the kernel reaches the firmware unchanged (QEMU 10.2 or newer); "
            "an older one patches the kernel's header: judge by the event log",
            _program_events(kernel),
        ),
        Register(JudgedBy.PREDICTION, "logged by the kernel's EFI stub (6.9 or newer)", _stub_events(initrd, cmdline)),
        Register(JudgedBy.PREDICTION, "nothing in the image extends it"),
    )


def replayed(digests: Iterable[bytes]) -> bytes:
    """M13: RTMR = SHA-384(RTMR || digest), from zeros."""
    register = bytes(DIGEST_BYTES)
    for digest in digests:
        register = hashlib.sha384(register + digest).digest()
    return register


def program_events(program: bytes) -> tuple[PredictedEvent, ...]:
    """M14: of RTMR 1, when the program's digest is known."""
    return (
        PredictedEvent(EV_EFI_BOOT_SERVICES_APPLICATION, program, "the kernel, as UEFI hashes a program"),
        _over(EV_EFI_ACTION, _CALLING, _CALLING.decode()),
        _over(EV_SEPARATOR, bytes(4), "separator"),
        _over(EV_EFI_ACTION, _LEAVING, _LEAVING.decode()),
        _over(EV_EFI_ACTION, _LEFT, _LEFT.decode()),
    )


def _program_events(kernel: bytes) -> tuple[PredictedEvent, ...]:
    return program_events(authenticode(kernel))


def _stub_events(initrd: bytes, cmdline: str) -> tuple[PredictedEvent, ...]:
    """M15: the command line as the firmware hands it on, in UTF-16 with its closing zero, then the initrd."""
    options = cmdline_bytes(cmdline).removesuffix(b"\0").decode("ascii") + (_INITRD_OPTION if initrd else "") + "\0"
    events: Sequence[PredictedEvent] = (
        _over(EV_EVENT_TAG, options.encode("utf-16-le"), "LOADED_IMAGE::LoadOptions"),
        _over(EV_EVENT_TAG, initrd, "Linux initrd"),
    )
    return tuple(events if initrd else events[:1])


def _over(kind: int, data: bytes, what: str) -> PredictedEvent:
    return PredictedEvent(kind, hashlib.sha384(data).digest(), what)
