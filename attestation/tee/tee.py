"""The seam between what must be attested and the machine that attests it."""

from __future__ import annotations

from typing import Protocol

from attestation.evidence.kinds import Evidence, TeeKind

REPORT_DATA_BYTES = 64


class Tee(Protocol):
    """Something that signs 64 bytes together with the measurement of the machine it runs on."""

    @property
    def kind(self) -> TeeKind:
        """The kind, known before the first quote because it is part of what a quote binds (E118)."""

    def quote(self, report_data: bytes) -> Evidence:
        """Evidence that carries exactly `report_data`. Raises `TeeRefused`, nothing else."""
