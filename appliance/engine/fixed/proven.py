"""The kernels, opened for use: a library that fails the self-test is refused.

`open_library` chooses the widest variant the processor has. All variants give the same bits, which the self-test shows
each time a library is opened.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path

from appliance.engine.errors import EngineRefused
from appliance.engine.fixed.library import Library, Variant, declared
from appliance.engine.fixed.self_test import check


@cache
def open_library(variant: Variant | None = None) -> Library:
    """The kernels in this variant, or in the widest this machine has. Raises `EngineRefused`."""
    kernels = declared()
    widest = max((v for v in Variant if kernels.fixed_has(v.value)), key=lambda v: v.value)
    if variant is not None and not kernels.fixed_has(variant.value):
        raise EngineRefused("engine.variant", expected=f"a processor with {variant.name}", got=f"{widest.name} at most")
    library = Library(kernels, variant or widest)
    check(library)
    return library


def open_device(path: Path) -> Library:
    """The same functions out of `cuda/fixed.cu`, held against the same digest. Raises `EngineRefused`."""
    kernels = declared(path)
    if not kernels.fixed_has(Variant.CUDA.value):
        raise EngineRefused("engine.variant", expected="a CUDA device", got="none")
    library = Library(kernels, Variant.CUDA)
    check(library)
    return library
