"""key-release.md R19: what an entry may say is a closed set, each type with one encoding; anything else is refused."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import pytest

from attestation.decision_log.chain import genesis, is_signed, sign, verify
from attestation.decision_log.codec import Entry, Value
from attestation.decision_log.errors import LogRefused
from attestation.decision_log.events import (
    TYPES,
    Admitted,
    Began,
    Blocks,
    Cell,
    DecisionTaken,
    Event,
    EvidenceDenied,
    Governed,
    Granted,
    HeightShown,
    KeyRotated,
    ReleaseAdded,
    ReleaseChanged,
    ResourceDenied,
    RevocationAdded,
    SecretAdded,
    SecretRevoked,
    SecretRotated,
    Started,
)
from attestation.decision_log.words import By, ReleaseState, RevocationKind
from attestation.evidence.kinds import TeeKind
from attestation.rcar.grant import GrantPurpose
from foundation import cbor
from measurements.launch.measurement import SnpLaunchDigest
from tests.little_receipts import raw, receipt_key

D = bytes(range(32))
M = b"\x4d" * 48
CELL = Cell(TeeKind.SNP, b"nonce", "r", D, SnpLaunchDigest(M), b"chip", D, b"thumb", "strict")
ABOUT: dict[str, Value] = {
    "tee": "snp",
    "nonce": b"nonce",
    "release": "r",
    "measurement": M,
    "chip": b"chip",
    "keyset": D,
    "key": b"thumb",
    "policy": "strict",
    "adoption": D,
}
SECRET: dict[str, Value] = {"resource": "a/b/c", "version": 2, "purpose": "model-key", "model_root": D}
RELEASE: dict[str, Value] = {
    "release": "r",
    "measurement": M,
    "model_root": D,
    "measured_config": D,
    "state": "approved",
}

# What each type says, and what stands in the log for it.
EVENTS: list[tuple[Event, str, dict[str, Value]]] = [
    (Began(D), "began", {"broker": D}),
    (Started("strict"), "started", {"policy": "strict"}),
    (Admitted(CELL), "admitted", ABOUT),
    (
        Granted(CELL, "a/b/c", 1, GrantPurpose.SERVICE, Blocks(3, 9)),
        "granted",
        ABOUT | {"resource": "a/b/c", "version": 1, "purpose": "service-key", "first": 3, "last": 9},
    ),
    (
        Granted(CELL, "a/b/c", 1, GrantPurpose.PLAIN),
        "granted",
        ABOUT | {"resource": "a/b/c", "version": 1, "purpose": "resource"},
    ),
    (
        EvidenceDenied(TeeKind.SIMULATED_TDX, b"n", "snp.debug", "strict"),
        "denied",
        {"tee": "simulated-tdx", "nonce": b"n", "code": "snp.debug", "policy": "strict"},
    ),
    (
        ResourceDenied(CELL, "a/b/c", GrantPurpose.MODEL, "grant.repeated"),
        "denied",
        ABOUT | {"resource": "a/b/c", "purpose": "model-key", "code": "grant.repeated"},
    ),
    (
        ReleaseAdded("r", SnpLaunchDigest(M), D, D, ReleaseState.APPROVED, D, b"tcb", 1, 0, 1000, By.DECISION),
        "release-added",
        RELEASE
        | {"adoption": D, "minimum_tcb": b"tcb", "first_height": 1, "last_height": 0, "lease": 1000, "by": "decision"},
    ),
    (
        ReleaseChanged("r", ReleaseState.SUPERSEDED, By.DECISION, 7),
        "release-changed",
        {"release": "r", "state": "superseded", "by": "decision", "last_height": 7},
    ),
    (
        ReleaseChanged("r", ReleaseState.RETIRED, By.ADMINISTRATOR),
        "release-changed",
        {"release": "r", "state": "retired", "by": "administrator"},
    ),
    (RevocationAdded(RevocationKind.CHIP, b"id"), "revoked", {"what": "chip", "value": b"id"}),
    (SecretAdded("a/b/c", 2, GrantPurpose.MODEL, D), "secret-added", SECRET),
    (SecretRotated("a/b/c", 2, GrantPurpose.MODEL, D), "secret-rotated", SECRET),
    (SecretRevoked("a/b/c"), "secret-revoked", {"resource": "a/b/c"}),
    (Governed(D, D, "charter"), "governed", {"authority": D, "digest": D, "kind": "charter"}),
    (
        DecisionTaken(D, 3, "adopt", "release 1", "one, two", D, 0),
        "decided",
        {"decision": D, "at": 3, "action": "adopt", "subject": "release 1", "by": "one, two", "file": D}
        | {"certified_ns": 0},
    ),
    (KeyRotated("a/b/c", 2), "key-rotated", {"resource": "a/b/c", "least_version": 2}),
    (HeightShown(40, b"gateway"), "height-shown", {"height": 40, "gateway": b"gateway"}),
]


def written(kind: object, details: object, position: object = 4) -> bytes:
    return cbor.encode([1, position, D, 5, kind, details])  # type: ignore[list-item]


@pytest.mark.parametrize(("event", "kind", "details"), EVENTS, ids=lambda each: str(each)[:30])
def test_each_type_has_one_encoding(event: Event, kind: str, details: dict[str, Value]) -> None:
    entry = Entry(4, D, 5, event)
    assert entry.encode() == written(kind, details)
    assert Entry.parse(entry.encode()) == entry
    assert (entry.kind, entry.details) == (kind, details)


def test_every_type_is_among_them() -> None:
    assert {type(event) for event, _, _ in EVENTS} == set(TYPES)


GRANTED: Mapping[str, Value] = EVENTS[3][2]


@pytest.mark.parametrize(
    ("kind", "details", "code", "expected", "got"),
    [
        ("granted-twice", {}, "log.kind", "one of began, started, ", "'granted-twice'"),
        ("began", {}, "log.began", "a member broker", "members none"),
        ("began", {"broker": D, "more": 1}, "log.began", "members broker", "more"),
        ("began", {"broker": D[1:]}, "log.began", "broker of 32 bytes", "31 bytes"),
        ("began", {"broker": "text"}, "log.began", "broker as bytes", "a text of 4 characters"),
        ("began", {"broker": [D]}, "log.began", "broker as bytes", "a list of 1 entries"),
        ("began", {1: D}, "log.began", "members broker", "1"),
        ("started", {"policy": None}, "log.started", "policy as a text", "none"),
        ("height-shown", {"height": True, "gateway": b""}, "log.height-shown", "height as a whole number", "type bool"),
        ("revoked", {"what": "cat", "value": b""}, "log.revoked", "what chip or measurement or ", "'cat'"),
        ("granted", {**GRANTED, "tee": "abacus"}, "log.granted", "tee snp or tdx or ", "'abacus'"),
        ("granted", {**GRANTED, "keyset": b"12"}, "log.granted", "keyset of 0 or 32 bytes", "2 bytes"),
        ("granted", {**GRANTED, "first": 10}, "log.granted", "a first block of 1 at least", "blocks 10 to 9"),
        ("granted", {**GRANTED, "first": 0}, "log.granted", "a first block of 1 at least", "blocks 0 to 9"),
        (
            "granted",
            {name: value for name, value in GRANTED.items() if name != "last"},
            "log.granted",
            "a member last",
            "members adoption, ",
        ),
        ("denied", {**ABOUT, "code": "x"}, "log.denied", "a member resource", "members adoption"),
    ],
)
def test_what_is_no_such_entry_is_refused_by_name(
    kind: str, details: object, code: str, expected: str, got: str
) -> None:
    with pytest.raises(LogRefused) as caught:
        Entry.parse(written(kind, details))
    assert caught.value.code == code
    assert expected in caught.value.expected
    assert got in caught.value.got


@pytest.mark.parametrize(
    "other",
    [
        b"",
        b"\x80",
        cbor.encode([2, 4, D, 5, "began", {"broker": D}]),
        cbor.encode([1, 4, D[1:], 5, "began", {"broker": D}]),
        cbor.encode([1, 4, D, 5, "began", [D]]),
        cbor.encode([1, 4, D, 5, "began", {"broker": D}, 0]),
        written("began", {"broker": D}) + b"\x00",
        written("began", {"broker": D}, position=True),
        written("began", {"broker": bytes(70_000)}),
    ],
)
def test_other_bytes_are_no_entry(other: bytes) -> None:
    with pytest.raises(LogRefused) as caught:
        Entry.parse(other)
    assert caught.value.code == "log.entry"


def test_a_log_of_every_type_is_chained_and_signed() -> None:
    key = receipt_key("a broker")
    public = raw(key)
    head, log = genesis(public), []
    for event, _, _ in EVENTS:
        entry = Entry(head.position + 1, head.digest, 5, event)
        log.append((entry.encode(), sign(entry, key)))
        head = replace(head, position=entry.position, digest=entry.digest)
    assert verify(log, public) == head
    assert is_signed(*log[2], public)
    assert not is_signed(log[2][0], log[3][1], public)
