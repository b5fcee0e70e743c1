"""The words that entries use: what a release's state is, what was revoked, by whose word something changed."""

from __future__ import annotations

from enum import Enum


class ReleaseState(Enum):
    PROPOSED = "proposed"
    APPROVED = "approved"
    SUPERSEDED = "superseded"  # its blocks end; it may be started for one lease more, to answer what waits
    RETIRED = "retired"
    WITHDRAWN = "withdrawn"  # by decision, for good


class RevocationKind(Enum):
    CHIP = "chip"
    MEASUREMENT = "measurement"
    RELEASE = "release"
    KEY = "key"  # of a cell: its keyset's digest, or the thumbprint of a key to seal to


class By(Enum):
    """By whose word a release was added or changed."""

    ADMINISTRATOR = "administrator"
    DECISION = "decision"
