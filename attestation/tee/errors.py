"""Why no quote could be had. Every code is stable; docs/spec/evidence-production.md E112 lists them."""

from __future__ import annotations

from typing import ClassVar

from foundation.refusal import Refused


class TeeRefused(Refused):
    """The platform did not give a quote that belongs to this request."""

    stage: ClassVar[str] = "tee"
