"""The refusals of the model files."""

from __future__ import annotations

from foundation.refusal import Refused


class ModelRefused(Refused):
    """A model this engine does not compute, or files that do not fit together. Ends a start."""

    stage = "model"
