"""Why an entry, or a whole log, is refused."""

from __future__ import annotations

from typing import ClassVar

from foundation.refusal import Refused


class LogRefused(Refused):
    """An entry is not one of the known types, or the log does not hold together."""

    stage: ClassVar[str] = "log"
