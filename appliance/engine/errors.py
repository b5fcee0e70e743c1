"""The refusals of an engine."""

from __future__ import annotations

from typing import ClassVar

from foundation.refusal import Refused


class EngineRefused(Refused):
    """A request, a model or a machine that an engine will not work with. It serves the next request as before."""

    stage: ClassVar[str] = "engine"


class EngineFault(Exception):
    """An engine did not do what engines do: a fault of the machine. It ends the cell (window.md N15)."""
