"""The kernels as Python calls them: structures, functions, and the file they are in.

`pip install` built `_kernels.so` beside this file. What is declared here has not been tested yet: `proven.py` opens the
library for use.
"""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum, unique
from pathlib import Path
from typing import Final

from appliance.engine.errors import EngineRefused

PATH: Final = Path(__file__).with_name("_kernels.so")


@unique
class Variant(Enum):
    """Instruction sets. All of them compute the same bits."""

    SCALAR = 0
    AVX2 = 1
    AVX512 = 2
    CUDA = 3  # a library of its own: `open_device`


class CMatrix(ctypes.Structure):
    _fields_ = [
        ("data", ctypes.c_void_p),
        ("scales", ctypes.c_void_p),
        ("row_bytes", ctypes.c_int64),
        ("row_scales", ctypes.c_int64),
        ("rows", ctypes.c_int32),
        ("columns", ctypes.c_int32),
        ("group", ctypes.c_int32),
        ("format", ctypes.c_int32),
        *((name, ctypes.c_void_p) for name in ("uppers", "patched", "patches")),
    ]


class CSizes(ctypes.Structure):
    _fields_ = [
        *(
            (name, ctypes.c_int32)
            for name in (
                "layers",
                "width",
                "heads",
                "kv_heads",
                "head_width",
                "hidden",
                "vocabulary",
                "positions_max",
                "rotary_width",
                "rows_max",
            )
        ),
        ("epsilon", ctypes.c_float),
    ]


class CLayer(ctypes.Structure):
    _fields_ = [
        *(
            (name, ctypes.c_void_p)
            for name in ("norm_before", "norm_after", "q_norm", "k_norm", "q_bias", "k_bias", "v_bias", "o_bias")
        ),
        *((name, CMatrix) for name in ("q", "k", "v", "o", "gate", "up", "down")),
        ("window", ctypes.c_int32),
    ]


class CEnds(ctypes.Structure):
    _fields_ = [
        *((name, ctypes.c_void_p) for name in ("embedding", "final_norm", "cosines", "sines")),
        ("head", CMatrix),
    ]


_POINTER, _INT, _LONG = ctypes.c_void_p, ctypes.c_int32, ctypes.c_int64
_FUNCTIONS: Final = {
    "fixed_has": (_INT, [_INT]),
    "fixed_pool_new": (_POINTER, [_INT]),
    "fixed_pool_free": (None, [_POINTER]),
    "fixed_model_new": (_POINTER, [_POINTER, _POINTER, _POINTER, _INT, _POINTER]),
    "fixed_model_free": (None, [_POINTER]),
    "fixed_cache_new": (_POINTER, [_POINTER, _INT]),
    "fixed_cache_free": (None, [_POINTER]),
    "fixed_cache_copy": (None, [_POINTER, _POINTER, _POINTER, _INT]),
    "fixed_forward": (_INT, [_POINTER, _INT, _POINTER, _POINTER, _POINTER, _INT, _POINTER, _POINTER]),
    "fixed_product": (_INT, [_INT, _POINTER, _POINTER, _POINTER, _INT, _POINTER]),
    "fixed_quantize": (None, [_POINTER, _INT, _INT, _INT, _INT, _POINTER, _POINTER]),
    "fixed_factors": (_INT, [_POINTER, _POINTER, _LONG]),
    "fixed_uppers": (_LONG, [_POINTER, _LONG, _POINTER]),
    "fixed_tighten": (None, [_POINTER, _INT, _INT, _POINTER, _POINTER, _POINTER, _POINTER]),
    "fixed_finite": (_INT, [_POINTER, _LONG]),
    "fixed_memory_new": (_POINTER, [ctypes.c_size_t]),
    "fixed_memory_free": (None, [_POINTER, ctypes.c_size_t]),
}


@dataclass(frozen=True, slots=True)
class Library:
    """Loaded kernels and the variant that is used of them."""

    kernels: ctypes.CDLL
    variant: Variant

    @property
    def tightens(self) -> bool:
        """A device lays weights out in memory of its own."""
        return self.variant is not Variant.CUDA

    def variants(self) -> Iterator[Variant]:
        """What this machine can run."""
        return (variant for variant in Variant if self.kernels.fixed_has(variant.value))


def declared(path: Path = PATH) -> ctypes.CDLL:
    """The library with its functions declared. It has not passed the self-test."""
    if not path.is_file():
        raise EngineRefused(
            "engine.no-kernels",
            expected=f"the built {path.name}",
            got="no file",
            hint="make setup builds it, and so does: python setup.py build_ext --inplace",
        )
    try:
        kernels = ctypes.CDLL(str(path))
        for name, (result, arguments) in _FUNCTIONS.items():
            function = getattr(kernels, name)
            function.restype, function.argtypes = result, arguments
    except (OSError, AttributeError) as error:
        raise EngineRefused("engine.no-kernels", expected=f"{path.name} of this version", got=error) from None
    return kernels
