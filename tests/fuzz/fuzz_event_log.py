"""Invariant: whatever the bytes, the event log parsers return or raise `FormatRefused`, and a log that parses
replays to four registers.
"""

from __future__ import annotations

from attestation.errors import FormatRefused
from attestation.evidence.event_log import EventLog, parse_ccel, parse_dstack, parse_event_log
from attestation.verify.event_log import _hashed_forms


def one_input(data: bytes) -> None:
    for parser in (parse_event_log, parse_ccel, parse_dstack):
        try:
            log = parser(data)
        except FormatRefused:
            continue
        _check(log)


def _check(log: EventLog) -> None:
    if [len(register) for register in log.replay()] != [48] * 4:
        raise AssertionError("a log replays to something else than four registers")
    for event in log.events:
        _hashed_forms(event)


_SPEC = b"Spec ID Event03\0" + bytes(4) + b"\0\2\0\2\1\0\0\0\x0c\0\x30\0\0"
_HEAD = bytes(4) + b"\3\0\0\0" + bytes(20) + len(_SPEC).to_bytes(4, "little") + _SPEC
_EVENT = b"\1\0\0\0" + b"\2\0\0\x80" + b"\1\0\0\0\x0c\0" + bytes(48) + b"\x20\0\0\0" + bytes(32)

SEEDS: list[bytes] = [
    _HEAD,
    _HEAD + _EVENT + b"\xff" * 16,
    b'[{"imr": 3, "event_type": 134217729, "digest": "' + b"00" * 48 + b'", "event": "x", "event_payload": "01"}]',
    b'{"event_log": "[]"}',
]
