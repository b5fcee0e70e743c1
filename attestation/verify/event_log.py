"""Does an event log belong to a verified quote? Replay against its RTMRs, and data against digests.

Replay proves the digests and their order, nothing about the text beside them: a log whose data was edited
replays just as well. So, for every kind of event whose digest is defined over its data, the two are
compared as well, and one that differs refuses the log. For the other kinds the data is kept and marked as
not bound. docs/spec/evidence-tdx.md E76 to E78.
"""

from __future__ import annotations

import hashlib
from dataclasses import replace

from attestation.errors import BindingRefused
from attestation.evidence.event_log import EventLog, LogEvent
from attestation.verify.verified import SEAL
from attestation.verify.verified_tdx import BoundEvent, VerifiedEventLog, VerifiedTdx

EV_SEPARATOR = 0x00000004
EV_IPL = 0x0000000D
EV_EFI_VARIABLE_DRIVER_CONFIG = 0x80000001
EV_EFI_VARIABLE_BOOT = 0x80000002
EV_EFI_GPT_EVENT = 0x80000006
EV_EFI_ACTION = 0x80000007
EV_EFI_VARIABLE_AUTHORITY = 0x800000E0
DSTACK_RUNTIME_EVENT = 0x08000001

_OVER_DATA = {EV_SEPARATOR, EV_EFI_VARIABLE_DRIVER_CONFIG, EV_EFI_GPT_EVENT, EV_EFI_ACTION, EV_EFI_VARIABLE_AUTHORITY}
_GRUB_PREFIXES = (b"grub_cmd: ", b"kernel_cmdline: ")
_VARIABLE_HEADER = 32  # a GUID, then the lengths of the name and of the data


def verify_event_log(log: EventLog, verified: VerifiedTdx) -> VerifiedTdx:
    """`verified` with its event log; `BindingRefused` for a log that is not the one behind its RTMRs."""
    for number, (replayed, quoted) in enumerate(zip(log.replay(), verified.report.rtmrs, strict=True)):
        if replayed != quoted:
            raise BindingRefused(
                f"eventlog.rtmr{number}",
                expected=quoted.hex(),
                got=replayed.hex(),
                hint="the log is incomplete, stale, or of another trust domain",
            )
    events = tuple(BoundEvent(event, _is_bound(number, event)) for number, event in enumerate(log.events))
    return replace(verified, event_log=VerifiedEventLog(events, SEAL))


def _is_bound(number: int, event: LogEvent) -> bool:
    """E77: whether the event's digest is one of its data; refuses an event whose digest has to be and is not."""
    forms = _hashed_forms(event)
    if forms and event.digest not in {hashlib.sha384(form).digest() for form in forms}:
        raise BindingRefused(
            f"eventlog.event{number}",
            expected="data that hashes to the event's digest",
            got=f"other data, in an event of type {event.kind:#010x}",
        )
    return bool(forms)


def _hashed_forms(event: LogEvent) -> tuple[bytes, ...]:
    """The byte strings whose digest the event may carry; none where it is of something outside the log."""
    if event.kind in _OVER_DATA:
        return (event.data,)
    if event.kind == EV_EFI_VARIABLE_BOOT:  # older firmware hashes the whole record, newer the variable's value
        name_bytes = 2 * int.from_bytes(event.data[16:24], "little")
        return event.data, event.data[_VARIABLE_HEADER + name_bytes :]
    if event.kind == EV_IPL:
        return tuple(
            event.data.removeprefix(prefix).removesuffix(b"\0")
            for prefix in _GRUB_PREFIXES
            if event.data.startswith(prefix)
        )
    if event.kind == DSTACK_RUNTIME_EVENT:
        return (b":".join((event.kind.to_bytes(4, "little"), event.name.encode(), event.data)),)
    return ()
