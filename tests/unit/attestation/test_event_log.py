"""Event logs: parsed to the end, replayed, and held against a quote's registers and their own data."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from attestation.errors import BindingRefused, FormatRefused
from attestation.evidence import event_log
from attestation.evidence.event_log import EventLog, LogEvent, parse_ccel, parse_event_log
from attestation.verify.event_log import verify_event_log
from attestation.verify.verified_tdx import VerifiedTdx
from tests.unit.attestation.test_tdx_policy import SOUND

SPEC = b"Spec ID Event03\0" + bytes(4) + b"\0\2\0\2" + (1).to_bytes(4, "little") + b"\x0c\0\x30\0" + b"\0"


def u32(value: int) -> bytes:
    return value.to_bytes(4, "little")


def sha384(data: bytes) -> bytes:
    return hashlib.sha384(data).digest()


def spec(event: bytes = SPEC, kind: int = 3) -> bytes:
    return u32(0) + u32(kind) + bytes(20) + u32(len(event)) + event


def record(
    register: int, kind: int, data: bytes, digest: bytes | None = None, *, count: int = 1, algorithm: int = 12
) -> bytes:
    head = u32(register) + u32(kind) + u32(count) + algorithm.to_bytes(2, "little")
    return head + (sha384(data) if digest is None else digest) + u32(len(data)) + data


def extend(register: bytes, *digests: bytes) -> bytes:
    for digest in digests:
        register = sha384(register + digest)
    return register


def quoting(log: EventLog) -> VerifiedTdx:
    first, second, third, fourth = log.replay()
    return replace(SOUND, report=replace(SOUND.report, rtmrs=(first, second, third, fourth)), event_log=None)


def test_events_extend_their_registers_in_order() -> None:  # evidence-tdx.md E76, E78
    log = parse_ccel(spec() + record(1, 4, b"a") + record(4, 4, b"b") + record(1, 4, b"c"))
    zeros = bytes(48)
    assert log.replay() == (extend(zeros, sha384(b"a"), sha384(b"c")), zeros, zeros, extend(zeros, sha384(b"b")))


def test_what_is_said_and_not_measured_is_left_out() -> None:  # evidence-tdx.md E76
    assert parse_ccel(spec() + record(9, 3, b"note")).events == ()


@pytest.mark.parametrize("padding", [b"", b"\xff" * 100, bytes(100), b"\xff", b"\0"])
def test_the_rest_of_the_log_area_is_padding(padding: bytes) -> None:  # evidence-tdx.md E76
    assert len(parse_ccel(spec() + record(1, 4, b"a") + padding).events) == 1


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b"", "eventlog.truncated"),
        (spec(kind=4), "eventlog.spec_id"),
        (spec(SPEC.replace(b"03", b"02")), "eventlog.spec_id"),
        (spec(SPEC.replace(b"\x0c\0\x30", b"\x0b\0\x20")), "eventlog.algorithms"),
        (spec(SPEC[:24] + u32(0) + b"\0"), "eventlog.algorithms"),
        (spec(SPEC[:24] + u32(2) + b"\x0c\0\x30\0\x0b\0\x20\0\0"), "eventlog.algorithms"),
        (spec(SPEC + b"x"), "eventlog.spec_id.trailing"),
        (spec(SPEC[:-1] + b"\5"), "eventlog.spec_id.truncated"),
        (spec() + record(0, 4, b""), "eventlog.register"),
        (spec() + record(5, 4, b""), "eventlog.register"),
        (spec() + record(1, 4, b"", count=2), "eventlog.digests"),
        (spec() + record(1, 4, b"", algorithm=11), "eventlog.algorithms"),
        (spec() + record(1, 4, b"abc")[:-1], "eventlog.truncated"),
        (spec() + record(1, 4, b"") + b"\xff\xff\xff\xff\0", "eventlog.truncated"),
        (spec() + record(1, 4, b"") + b"\xff" * 8 + bytes(8), "eventlog.digests"),
        (spec() + record(1, 4, b"") + bytes(8) + b"\xff" * 8, "eventlog.digests"),
    ],
)
def test_another_log_is_refused(data: bytes, code: str) -> None:  # evidence-tdx.md E76
    with pytest.raises(FormatRefused) as refused:
        parse_ccel(data)
    assert refused.value.code == code


def test_logs_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:  # evidence-tdx.md E76
    assert (event_log.LOG_BYTES_MAX, event_log.EVENTS_MAX) == (4 * 1024 * 1024, 16_384)
    whole = spec() + record(1, 4, b"a") * 3
    monkeypatch.setattr(event_log, "EVENTS_MAX", 3)
    assert len(parse_ccel(whole).events) == 3
    monkeypatch.setattr(event_log, "EVENTS_MAX", 2)
    with pytest.raises(FormatRefused, match=r"eventlog\.events"):
        parse_ccel(whole)
    monkeypatch.setattr(event_log, "LOG_BYTES_MAX", len(whole) - 1)
    for data in (whole, b"[" + b" " * len(whole) + b"]"):
        with pytest.raises(FormatRefused, match=r"eventlog\.size"):
            parse_event_log(data)


def dstack(*events: LogEvent) -> bytes:
    return json.dumps(
        [
            {
                "imr": e.rtmr,
                "event_type": e.kind,
                "digest": e.digest.hex(),
                "event": e.name,
                "event_payload": e.data.hex(),
            }
            for e in events
        ]
    ).encode()


RUNTIME = 0x08000001


def runtime(name: str, data: bytes) -> LogEvent:
    return LogEvent(3, RUNTIME, sha384(u32(RUNTIME) + b":" + name.encode() + b":" + data), data, name)


def test_dstacks_json_is_a_list_or_a_report_that_holds_one() -> None:  # evidence-tdx.md E76
    events = (LogEvent(0, 4, sha384(b"x"), b"x"), runtime("app-id", b"\1"))
    assert parse_event_log(dstack(*events)).events == events
    wrapped = json.dumps({"event_log": dstack(*events).decode()}).encode()
    assert parse_event_log(wrapped).events == events


@pytest.mark.parametrize(
    "change",
    [
        {"imr": 4},
        {"imr": -1},
        {"digest": "00"},
        {"digest": None},
        {"event": 1},
        {"event_payload": "0"},
        {"event_type": 1 << 32},
    ],
)
def test_another_dstack_event_is_refused(change: dict[str, object]) -> None:
    event = {"imr": 0, "event_type": 4, "digest": "00" * 48, "event": "", "event_payload": ""} | change
    with pytest.raises(FormatRefused):
        parse_event_log(json.dumps([event]).encode())


@pytest.mark.parametrize("data", [b"{}", b"[1]", b'{"event_log": "1"}', b'{"event_log": "{}"}', b"[", b"[]x"])
def test_json_that_is_no_list_of_events_is_refused(data: bytes) -> None:  # evidence-tdx.md E76
    with pytest.raises(FormatRefused):
        parse_event_log(data)


@pytest.mark.parametrize("register", range(4))
def test_a_register_that_differs_refuses_the_log(register: int) -> None:  # evidence-tdx.md E78
    log = EventLog(tuple(LogEvent(n, 10, sha384(bytes([n])), b"") for n in range(4)))
    verified = verify_event_log(log, quoting(log))
    assert verified.event_log is not None
    other = EventLog(tuple(replace(e, digest=bytes(48)) if e.rtmr == register else e for e in log.events))
    with pytest.raises(BindingRefused) as refused:
        verify_event_log(other, quoting(log))
    assert refused.value.code == f"eventlog.rtmr{register}"


def test_a_missing_or_swapped_event_refuses_the_log() -> None:  # evidence-tdx.md E77, E78
    one, two = (LogEvent(0, 10, sha384(data), b"") for data in (b"1", b"2"))
    verified = quoting(EventLog((one, two)))
    for events in ((one,), (two, one), (one, two, two), ()):
        with pytest.raises(BindingRefused):
            verify_event_log(EventLog(events), verified)


GUID = bytes(16)
VARIABLE = GUID + (4).to_bytes(8, "little") + (3).to_bytes(8, "little") + "Boot".encode("utf-16-le") + b"abc"

# Kind, data, and the strings of which the digest may be.
BOUND: Sequence[tuple[int, bytes, tuple[bytes, ...]]] = [
    (0x4, b"\0\0\0\0", (b"\0\0\0\0",)),
    (0x80000001, VARIABLE, (VARIABLE,)),
    (0x80000002, VARIABLE, (VARIABLE, b"abc")),
    (0x80000006, b"EFI PART", (b"EFI PART",)),
    (0x80000007, b"Exit", (b"Exit",)),
    (0x800000E0, VARIABLE, (VARIABLE,)),
    (0xD, b"grub_cmd: boot\0", (b"boot",)),
    (0xD, b"kernel_cmdline: a b\0", (b"a b",)),
]


@pytest.mark.parametrize(("kind", "data", "forms"), BOUND)
# evidence-tdx.md E77
def test_data_is_bound_where_the_digest_is_of_it(kind: int, data: bytes, forms: tuple[bytes, ...]) -> None:
    for form in forms:
        log = EventLog((LogEvent(0, kind, sha384(form), data),))
        found = verify_event_log(log, quoting(log)).event_log
        assert found is not None
        assert found.events[0].bound
    for wrong in (b"other", data + b"x"):
        log = EventLog((LogEvent(0, kind, sha384(wrong), data),))
        with pytest.raises(BindingRefused) as refused:
            verify_event_log(log, quoting(log))
        assert refused.value.code == "eventlog.event0"


def test_a_runtime_event_is_bound_with_its_name() -> None:  # evidence-tdx.md E77
    log = EventLog((runtime("app-id", b"\1\2"),))
    assert verify_event_log(log, quoting(log)).event_log is not None
    renamed = EventLog((replace(log.events[0], name="app-idx"),))
    with pytest.raises(BindingRefused):
        verify_event_log(renamed, quoting(renamed))


@pytest.mark.parametrize(("kind", "data"), [(10, b"ACPI DATA"), (0x80000003, b"path"), (0xD, b"/vmlinuz\0"), (6, b"")])
def test_data_outside_the_log_is_not_bound(kind: int, data: bytes) -> None:  # evidence-tdx.md E77
    log = EventLog((LogEvent(0, kind, bytes(48), data),))
    found = verify_event_log(log, quoting(log)).event_log
    assert found is not None
    assert not found.events[0].bound


@given(st.binary(max_size=400))
def test_nothing_but_a_refusal_leaves_the_parser(data: bytes) -> None:
    for attempt in (data, spec() + data, b"[" + data):
        try:
            parse_event_log(attempt)
        except FormatRefused:
            continue
