"""Weights made from a seed: for the self-test, for tests and for benchmarks. Their output is meaningless.

The same architecture and seed give the same bytes everywhere: only SHAKE-256, tables of bytes and IEEE division.
"""

from __future__ import annotations

from array import array
from hashlib import shake_256
from typing import Final

from appliance.engine.fixed.architecture import Architecture, Format, Tensor, names

_HIGH_BYTES: Final = bytes((0x3C, 0xBC, 0x3D, 0xBD, 0x3C, 0xBC, 0x3D, 0xBB)[b & 7] for b in range(256))
REPEAT: Final = 1 << 22  # bytes drawn for one tensor; a larger one repeats them


class MadeWeights:
    """bf16 weights of magnitude 0.002 to 0.12, norms near one, and rotary tables that turn without sine or cosine."""

    def __init__(self, architecture: Architecture, seed: bytes = b"") -> None:
        self._architecture: Final = architecture
        self._seed: Final = seed
        self._shapes: Final = dict(names(architecture))

    @property
    def architecture(self) -> Architecture:
        return self._architecture

    @property
    def rotary(self) -> tuple[memoryview, memoryview]:
        """Points on the circle by t: ((1 - t^2) / (1 + t^2), 2 t / (1 + t^2)), another t for each place."""
        cosines, sines = array("f"), array("f")
        for position in range(self._architecture.positions_max):
            for pair in range(self._architecture.rotary_width // 2):
                t = ((position * (7 * pair + 3)) % 257 - 128) / 64
                cosines.append((1 - t * t) / (1 + t * t))
                sines.append(2 * t / (1 + t * t))
        return memoryview(cosines), memoryview(sines)

    def tensor(self, name: str) -> Tensor:
        shape = self._shapes[name]
        count = shape[0] * (shape[1] if len(shape) > 1 else 1)
        drawn = shake_256(self._seed + b"\0" + name.encode()).digest(min(2 * count, REPEAT))
        data = bytearray(drawn)
        data[1::2] = b"\x3f" * (len(drawn) // 2) if "norm" in name else drawn[1::2].translate(_HIGH_BYTES)
        data *= -(-2 * count // len(data))
        return Tensor(Format.BF16, shape, memoryview(data)[: 2 * count].toreadonly())
