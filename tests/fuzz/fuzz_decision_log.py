"""Invariant: any bytes are an entry of a decision log that encodes back to them, or refused as `LogRefused`; and in a
log under the seeds' key nothing stands in the place of an entry but that entry."""

from __future__ import annotations

from attestation.decision_log.chain import verify
from attestation.decision_log.codec import Entry
from attestation.decision_log.errors import LogRefused
from tests.little_audit import broker

_LITTLE = broker()
PUBLIC = _LITTLE.keys.public
with _LITTLE.store.change() as _change:
    LOG = list(_change.entries())
SEEDS: list[bytes] = [*(raw for raw, _ in LOG), b""]


def one_input(data: bytes) -> None:
    try:
        entry = Entry.parse(data)
    except LogRefused:
        return
    if entry.encode() != data:
        raise AssertionError("an entry with a second encoding")
    raw, signature = LOG[-1]
    try:
        verify([*LOG[:-1], (data, signature)], PUBLIC)
    except LogRefused:
        return
    if data != raw:
        raise AssertionError("a forged entry stands in the log")
