"""Why a document about a release is refused. One family, so that a caller catches one thing."""

from __future__ import annotations

from typing import ClassVar

from foundation.refusal import Refused


class ReleaseDocumentRefused(Refused):
    """Not such a document, or not in its one form. `code` names the field."""

    stage: ClassVar[str] = "release document"
