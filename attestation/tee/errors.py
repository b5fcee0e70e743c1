"""Why no quote could be had. Every code is stable; docs/spec/evidence-production.md E112 lists them."""

from __future__ import annotations

from typing import ClassVar

from attestation.errors import EvidenceRefused


class TeeRefused(EvidenceRefused):
    """The platform did not give a quote that belongs to this request."""

    stage: ClassVar[str] = "tee"
