"""The tables of the rotary embedding: one recipe, the same bits wherever it runs.

    cosines, sines = Rotation(10000.0).tables(positions=4096, width=128)

Float64 additions, subtractions, multiplications and divisions in a stated order, then one rounding to float32; no
library function, whose last bit differs between machines (text.md L25 to L27). Position p turns by the p-th power of a
unit complex number, made by multiplying; the error after a million positions is below one part in 10^9, which a
float32 does not see.
"""

from __future__ import annotations

import sys
from array import array
from dataclasses import dataclass
from typing import Final

from foundation.digests import tagged_sha256

PI: Final = 3.141592653589793
LN2: Final = 0.6931471805599453
_TERMS: Final = 20


@dataclass(frozen=True, slots=True)
class Llama3:
    """Slow turns made slower, fast ones left, between them a blend."""

    factor: float
    low: float
    high: float
    original: int


@dataclass(frozen=True, slots=True)
class Rotation:
    """How fast each pair of dimensions turns."""

    theta: float
    divisor: float = 1.0  # of every speed: linear scaling
    llama3: Llama3 | None = None

    def speeds(self, width: int) -> list[float]:
        """Radians a position, one for each pair."""
        half = width // 2
        logarithm = _ln(self.theta)
        speeds = [_exp_minus(index * logarithm / half) / self.divisor for index in range(half)]
        return speeds if self.llama3 is None else [_blended(speed, self.llama3) for speed in speeds]

    def tables(self, *, positions: int, width: int) -> tuple[memoryview, memoryview]:
        """Cosines and sines, float32 little-endian, [positions, width / 2] each."""
        half = width // 2
        cosines, sines = (array("f", bytes(4 * positions * half)) for _ in range(2))
        for pair, speed in enumerate(self.speeds(width)):
            cosines[pair::half], sines[pair::half] = _turning(speed, positions)
        if sys.byteorder != "little":
            cosines.byteswap()
            sines.byteswap()
        return memoryview(cosines).cast("B").toreadonly(), memoryview(sines).cast("B").toreadonly()


def tables_digest(tables: tuple[memoryview, memoryview]) -> bytes:
    """What an engine profile can name the tables by."""
    return tagged_sha256("anchorhold/rotary/v1", *map(bytes, tables))


def _turning(speed: float, positions: int) -> tuple[array[float], array[float]]:
    """Position after position: (c, s) times (cos, sin) of one step."""
    step_c, step_s = _cos_sin(speed)
    c, s = 1.0, 0.0
    cosines, sines = [], []
    for _ in range(positions):
        cosines.append(c)
        sines.append(s)
        c, s = c * step_c - s * step_s, s * step_c + c * step_s
    return array("f", cosines), array("f", sines)


def _blended(speed: float, scaling: Llama3) -> float:
    wavelength = 2.0 * PI / speed
    if wavelength < scaling.original / scaling.high:
        return speed
    if wavelength > scaling.original / scaling.low:
        return speed / scaling.factor
    blend = (scaling.original / wavelength - scaling.low) / (scaling.high - scaling.low)
    return (1.0 - blend) * speed / scaling.factor + blend * speed


def _ln(value: float) -> float:
    """Of 1 and more: halve into [1, 2), then 2 artanh((m - 1) / (m + 1)) by its series."""
    halvings = 0
    while value >= 2.0:
        value /= 2.0
        halvings += 1
    ratio = (value - 1.0) / (value + 1.0)
    square = ratio * ratio
    total = 0.0
    for term in range(_TERMS, -1, -1):
        total = total * square + 1.0 / (2 * term + 1)
    return 2.0 * ratio * total + halvings * LN2


def _exp_minus(value: float) -> float:
    """e to the minus `value`, of 0 and more: whole halvings aside, the series."""
    halvings = int(value / LN2)
    rest = -(value - halvings * LN2)
    total = 1.0
    for term in range(_TERMS, 0, -1):
        total = 1.0 + rest * total / term
    for _ in range(halvings):
        total /= 2.0
    return total


def _cos_sin(angle: float) -> tuple[float, float]:
    """Of 0 to 1, by their series."""
    square = angle * angle
    cosine = sine = 1.0
    for term in range(_TERMS, 0, -1):
        cosine = 1.0 - square * cosine / ((2 * term - 1) * (2 * term))
        sine = 1.0 - square * sine / ((2 * term) * (2 * term + 1))
    return cosine, angle * sine
