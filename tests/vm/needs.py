"""What a machine with a sealed image needs, or its test skips."""

from __future__ import annotations

import pytest

from image_build.boot import vm_tools
from image_build.kernel.inputs import Inputs
from image_build.kernel.kernel_cache import is_kept


def need_tools() -> None:
    reason = vm_tools.why_not()
    if reason is None and not is_kept(Inputs.read()):
        reason = "the guest kernel is not built: `make kernel` builds it once"
    if reason is not None:
        pytest.skip(reason)
