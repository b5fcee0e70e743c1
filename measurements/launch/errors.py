"""The one family of refusals that leaves this package."""

from __future__ import annotations

from foundation.refusal import Refused


class LaunchRefused(Refused):
    """A file that a machine is to start from is not what it has to be, or a manifest is not one."""

    stage = "launch"
