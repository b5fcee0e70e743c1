"""Event logs of a trust domain: what is said to have been measured into its RTMRs, in order. Proves nothing.

Two formats, both parsed to the end and both into the same events:
- CCEL: the firmware's log, in the TCG2 "crypto agile" format, one SHA-384 bank (`parse_ccel`);
- dstack's JSON: a list of {imr, event_type, digest, event, event_payload} (`parse_dstack`).

`replay` extends four registers with the events' digests. Only `attestation.verify.event_log` compares the
result with a verified quote. docs/spec/evidence-tdx.md E76.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass

from attestation.errors import FormatRefused
from attestation.evidence.cursor import Cursor
from foundation.document import ANY_HEX, ANY_TEXT, Fields, json_value

LOG_BYTES_MAX = 4 * 1024 * 1024
EVENTS_MAX = 16 * 1024

EV_NO_ACTION = 3
_ALGORITHM_SHA384 = 0x000C
_DIGEST_BYTES = 48
_REGISTERS = 4
_SPEC_ID = b"Spec ID Event03\0"


@dataclass(frozen=True, slots=True)
class LogEvent:
    """One measurement: `data` is what the log says was measured, `name` what dstack calls it."""

    rtmr: int
    kind: int
    digest: bytes
    data: bytes
    name: str = ""


@dataclass(frozen=True, slots=True)
class EventLog:
    events: tuple[LogEvent, ...]

    def replay(self) -> tuple[bytes, ...]:
        """E78: the four registers after every event: RTMR = SHA-384(RTMR || digest), from zeros."""
        registers = [bytes(_DIGEST_BYTES)] * _REGISTERS
        for event in self.events:
            registers[event.rtmr] = hashlib.sha384(registers[event.rtmr] + event.digest).digest()
        return tuple(registers)


def parse_event_log(data: bytes) -> EventLog:
    """Either format. The first byte tells which: JSON opens a list or an object, CCEL a register number."""
    return parse_dstack(data) if data.lstrip(b" \t\r\n")[:1] in (b"[", b"{") else parse_ccel(data)


def parse_ccel(data: bytes) -> EventLog:
    """A TCG2 log whose measurement register n+1 is RTMR n. Raises `FormatRefused` and nothing else."""
    if len(data) > LOG_BYTES_MAX:
        raise FormatRefused("eventlog.size", expected=f"at most {LOG_BYTES_MAX} bytes", got=f"{len(data)} bytes")
    cursor = Cursor("eventlog", data)
    _parse_spec_id(cursor)
    events: list[LogEvent] = []
    while cursor.left:
        if _is_padding(data, cursor.position):
            break
        event = _parse_ccel_event(cursor)
        if event is not None:
            _append(events, event)
    return EventLog(tuple(events))


def _is_padding(data: bytes, at: int) -> bool:
    """E76: the log area is larger than the log: what follows the last event is all ones or all zeros."""
    head = data[at : at + 8]
    if head.strip(b"\0") and head.strip(b"\xff"):  # an event: no look at all that is left
        return False
    rest = data[at:]
    return not rest.strip(b"\0") or not rest.strip(b"\xff")


def _append(events: list[LogEvent], event: LogEvent) -> None:
    if len(events) == EVENTS_MAX:
        raise FormatRefused("eventlog.events", expected=f"at most {EVENTS_MAX} events", got=f"more than {EVENTS_MAX}")
    events.append(event)


def _parse_spec_id(cursor: Cursor) -> None:
    """The first event is in the old SHA-1 layout and says which digests the others carry: SHA-384 alone."""
    cursor.integer(4, "register")
    if (kind := cursor.integer(4, "event type")) != EV_NO_ACTION:
        raise FormatRefused("eventlog.spec_id", expected=f"event type {EV_NO_ACTION}", got=kind)
    cursor.take(20, "digest")
    spec = Cursor("eventlog.spec_id", cursor.take(cursor.integer(4, "event size"), "spec id event"))
    if (signature := spec.take(16, "signature")) != _SPEC_ID:
        raise FormatRefused("eventlog.spec_id", expected="Spec ID Event03", got=signature.hex())
    spec.take(8, "platform class and version")
    algorithms = tuple(
        (spec.integer(2, "algorithm"), spec.integer(2, "digest size"))
        for _ in range(min(spec.integer(4, "algorithm count"), 8))
    )
    if algorithms != ((_ALGORITHM_SHA384, _DIGEST_BYTES),):
        raise FormatRefused("eventlog.algorithms", expected="SHA-384 and no other", got=algorithms)
    spec.take(spec.integer(1, "vendor info size"), "vendor info")
    spec.finish()


def _parse_ccel_event(cursor: Cursor) -> LogEvent | None:
    register = cursor.integer(4, "register")
    kind = cursor.integer(4, "event type")
    if (count := cursor.integer(4, "digest count")) != 1:
        raise FormatRefused("eventlog.digests", expected="one digest per event", got=count)
    if (algorithm := cursor.integer(2, "algorithm")) != _ALGORITHM_SHA384:
        raise FormatRefused("eventlog.algorithms", expected="SHA-384", got=f"{algorithm:#x}")
    digest = cursor.take(_DIGEST_BYTES, "digest")
    data = cursor.take(cursor.integer(4, "event size"), "event")
    if kind == EV_NO_ACTION:  # informative: measured nowhere
        return None
    # Register 0 is MRTD, which firmware cannot extend.
    if not 1 <= register <= _REGISTERS:
        raise FormatRefused("eventlog.register", expected=f"1 to {_REGISTERS}", got=register)
    return LogEvent(register - 1, kind, digest, data)


def parse_dstack(data: bytes | str) -> EventLog:
    """dstack's list of events, or its report object that holds the list as text under "event_log"."""
    what = "eventlog"
    value = json_value(data, what, FormatRefused, bytes_max=LOG_BYTES_MAX)
    if isinstance(value, dict):
        text = Fields(value, what, FormatRefused, ANY_TEXT).text("event_log", LOG_BYTES_MAX)
        value = json_value(text, what, FormatRefused, bytes_max=LOG_BYTES_MAX)
    if not isinstance(value, list):
        raise FormatRefused("eventlog.json", expected="a list of events", got=type(value).__name__)
    events: list[LogEvent] = []
    for event in _dstack_events(value):
        _append(events, event)
    return EventLog(tuple(events))


def _dstack_events(values: Iterable[object]) -> Iterable[LogEvent]:
    for value in values:
        item = Fields(value, "eventlog.event", FormatRefused, ANY_TEXT)
        yield LogEvent(
            rtmr=item.uint("imr", _REGISTERS - 1),
            kind=item.uint("event_type", 2**32 - 1),
            digest=item.digest("digest", _DIGEST_BYTES, ANY_HEX),
            data=item.blob("event_payload", 64 * 1024),
            name=item.text("event", 256, empty=True),
        )
