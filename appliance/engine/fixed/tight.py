"""bf16 matrices kept in three quarters of their bytes, with the same numbers in them.

Decoding reads every weight once a token, so its speed is memory's. Of a bf16 number the upper byte, sign and most of
the exponent, hardly says anything: sixteen of the 256 do for all but one weight in thousands, and that one is kept
apart. `kernels/order.h` has the layout; rows are opened where they are multiplied, so no product changes by a bit.
"""

from __future__ import annotations

import ctypes
from typing import Final

from appliance.engine.fixed.architecture import LINE
from appliance.engine.fixed.library import CMatrix
from appliance.engine.fixed.memory import Held, HugeMemory

_UPPERS: Final = 16
_PATCH_BYTES: Final = 8
_MOST: Final = (1 << 31) - 1
_LARGE: Final = 1 << 20  # bytes that are worth huge pages
_WORTH_WHILE: Final = 256  # weights to a patch, at least


def row_bytes(columns: int) -> int:
    return -(-columns // LINE) * (LINE + LINE // 2)


def tighten(kernels: ctypes.CDLL, matrix: CMatrix) -> Held | None:
    """Points a bf16 matrix at tight rows of its own, which live as long as what is given back does.

    None, and nothing is changed, where its upper bytes are too many.
    """
    uppers = (ctypes.c_ubyte * _UPPERS)()
    count = matrix.rows * matrix.columns
    patches: int = kernels.fixed_uppers(matrix.data, count, uppers)
    if patches * _WORTH_WHILE > count or patches > _MOST:
        return None
    stride = row_bytes(matrix.columns)
    pairs = -(-matrix.rows // 2)
    at_uppers = 2 * pairs * stride
    at_patches = at_uppers + _UPPERS
    at_patched = at_patches + patches * _PATCH_BYTES
    size = at_patched + 4 * (pairs + 1)
    held = Held(HugeMemory(kernels, size).view if size >= _LARGE else memoryview(bytearray(size)))
    start = held.address
    ctypes.memmove(start + at_uppers, uppers, _UPPERS)
    plain, matrix.data, matrix.row_bytes = matrix.data, start, stride
    matrix.uppers, matrix.patched, matrix.patches = start + at_uppers, start + at_patched, start + at_patches
    kernels.fixed_tighten(plain, matrix.rows, matrix.columns, uppers, start, matrix.patched, matrix.patches)
    return held
