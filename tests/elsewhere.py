"""Libraries that the default environment leaves out, and that the tests marked `torch` and `vllm` need."""

from __future__ import annotations

from typing import Any

import pytest


def brought(library: str) -> Any:
    """The library, or a skip that says which environment has it. At the top of a module it skips the whole module."""
    return pytest.importorskip(library, reason=f"{library} is not installed here: `make vllm` brings it")
