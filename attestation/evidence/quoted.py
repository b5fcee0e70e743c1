"""A report and what helps to verify it, without any claim beside it: parsed, and not believed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from attestation.evidence.auxblob import TableEntry
from attestation.evidence.kinds import TeeKind


@dataclass(frozen=True, slots=True)
class Quoted:
    """What a client of the key broker protocol sends that knows nothing of our bundles."""

    kind: TeeKind
    report: bytes
    certificates: Mapping[TableEntry, bytes] = field(default_factory=dict)
    crls: tuple[bytes, ...] = ()
    collateral: bytes = b""
    event_log: bytes = b""
