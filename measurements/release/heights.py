"""The blocks a release is for: from one height to another, both included.

    heights = Heights(1, None)                  from block 1 on, until a successor begins
    heights.ended_by(Heights(5_000, None))      Heights(1, 4_999)
    4_999 in heights

A height is the gateway's (docs/spec/order.md). Two releases whose heights share a block could give it two answers, so
no decision adopts the second of them (docs/spec/governance.md V23).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

HEIGHT_MAX: Final = (1 << 63) - 1
LEASE_MAX: Final = 1_000_000
LEASE: Final = 10_000  # blocks; where nobody says otherwise


@dataclass(frozen=True, slots=True)
class Heights:
    first: int
    last: int | None  # None: no end yet

    def __post_init__(self) -> None:
        if not 1 <= self.first <= self.end <= HEIGHT_MAX:
            raise ValueError(f"heights from {self.first} to {self.last}")

    @property
    def end(self) -> int:
        """The last height, or the greatest there is."""
        return HEIGHT_MAX if self.last is None else self.last

    def __contains__(self, height: int) -> bool:
        return self.first <= height <= self.end

    def __str__(self) -> str:
        return f"blocks {self.first} to {self.last}" if self.last is not None else f"blocks from {self.first} on"

    def overlaps(self, other: Heights) -> bool:
        return self.first <= other.end and other.first <= self.end

    def ended_by(self, successor: Heights) -> Heights:
        """These, up to the block before `successor` begins. ValueError where it does not begin behind them."""
        return self if self.end < successor.first else replace(self, last=successor.first - 1)
