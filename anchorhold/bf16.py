"""Numbers of other widths as bf16: to nearest, ties to even. Without a library for arrays.

    rounded(view, "F32")

A long integer holds many numbers side by side, each in 32 bits of its own, and is added and masked as one.
"""

from __future__ import annotations

import struct
from array import array
from functools import cache, lru_cache
from typing import Final

_CHUNK: Final = 1 << 20  # numbers in one integer


class NotFinite(ValueError):
    """A number is an infinity or none, or becomes an infinity as bf16."""


def rounded(data: bytes | memoryview, dtype: str) -> bytearray:
    """Of BF16, F16 or F32, little-endian. Raises `NotFinite`."""
    view = memoryview(data).cast("B")
    match dtype:
        case "BF16":
            numbers = bytearray(view)
        case "F16":
            numbers = bytearray(array("H", map(_of_halves().__getitem__, array("H", view.tobytes()))).tobytes())
        case "F32":
            numbers = bytearray()
            for start in range(0, len(view), 4 * _CHUNK):
                numbers += _narrowed(view[start : start + 4 * _CHUNK])
        case _:
            raise ValueError(f"expected BF16, F16 or F32, got {dtype}")
    for start in range(0, len(numbers), 2 * _CHUNK):
        _check_finite(numbers[start : start + 2 * _CHUNK])
    return numbers


def _narrowed(singles: memoryview) -> bytearray:
    """The upper halves of float32s, after half of the lowest bit that stays, less one if that bit is even, is added.

    A number that is none may run over into its neighbour, so such are refused before.
    """
    count = len(singles) // 4
    upper = bytearray(2 * count)
    upper[0::2], upper[1::2] = singles[2::4].tobytes(), singles[3::4].tobytes()
    _check_finite(upper)
    lanes = int.from_bytes(singles, "little")
    odd = (lanes >> 16) & _repeated(1, 4, count)
    lanes += odd + _repeated(0x7FFF, 4, count)
    raw = lanes.to_bytes(4 * count, "little")
    upper[0::2], upper[1::2] = raw[2::4], raw[3::4]
    return upper


def _check_finite(numbers: bytearray) -> None:
    """bf16 is infinite or none where all eight bits of its exponent are set: one more then carries."""
    count = len(numbers) // 2
    exponents = int.from_bytes(numbers, "little") & _repeated(0x7F80, 2, count)
    if (exponents + _repeated(0x0080, 2, count)) & _repeated(0x8000, 2, count):
        raise NotFinite


@lru_cache(maxsize=8)
def _repeated(number: int, width: int, count: int) -> int:
    return int.from_bytes(number.to_bytes(width, "little") * count, "little")


@cache
def _of_halves() -> array[int]:
    """The bf16 of each of the 65,536 numbers of 16 bits. What is not finite stays not finite."""
    singles = struct.pack("<65536f", *struct.unpack("<65536e", array("H", range(1 << 16)).tobytes()))
    table = array("H")
    for (bits,) in struct.iter_unpack("<I", singles):
        finite = bits & 0x7F800000 != 0x7F800000
        table.append((bits + 0x7FFF + (bits >> 16 & 1)) >> 16 if finite else 0x7F80)
    return table
