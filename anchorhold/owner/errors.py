"""The refusals of the owner's room."""

from __future__ import annotations

from foundation.refusal import Refused


class OwnerRefused(Refused):
    """What an owner asked for, or what lies in an owner's folder, does not fit together."""

    stage = "owner"


class NoPart(OwnerRefused):
    """What should be a part of an owner's folder is nothing of the sort."""
