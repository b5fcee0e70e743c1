"""What an answer costs: whole cycles, from whole numbers of tokens.

    PriceSchedule(request=1_000_000, token_in=2_000, token_out=10_000)
    cycles = request + tokens in * token_in + tokens out * token_out

The schedule is in the measured configuration; its digest is in every receipt, so that the sum can be done again by
whoever has the three numbers (docs/spec/receipt.md T16, T17).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Final, Self

from attestation.receipts.errors import PriceRefused
from foundation import cbor
from foundation.digests import tagged_sha256
from foundation.refusal import listed
from measurements.digests import PriceDigest

PRICE_TAG: Final = "anchorhold/price/v1"
CYCLES_MAX: Final = 1 << 40  # of one price: with at most TOKENS_MAX tokens each way a sum stays below 2^64
TOKENS_MAX: Final = 1 << 22
_NAMES: Final = ("request", "token_in", "token_out")


@dataclass(frozen=True, slots=True)
class PriceSchedule:
    """Cycles for a request, and for each token in and out. Raises `PriceRefused` for what cannot be counted in."""

    VERSION: ClassVar[int] = 1
    request: int
    token_in: int
    token_out: int

    def __post_init__(self) -> None:
        for name in _NAMES:
            value = getattr(self, name)
            if type(value) is not int or not 0 <= value <= CYCLES_MAX:
                raise PriceRefused(name, expected=f"0 to {CYCLES_MAX} cycles", got=str(value)[:40])

    @classmethod
    def of(cls, fields: Mapping[str, object]) -> Self:
        """From the `[price]` table of a measured configuration. Raises `PriceRefused`, nothing else."""
        if fields.keys() != set(_NAMES):
            raise PriceRefused("fields", expected=", ".join(_NAMES), got=", ".join(sorted(map(str, fields)))[:80])
        values = [value for value in map(fields.__getitem__, _NAMES) if type(value) is int]
        if len(values) != len(_NAMES):
            raise PriceRefused(
                "fields", expected="integers", got=listed({type(value).__name__ for value in fields.values()})
            )
        return cls(*values)

    def encode(self) -> bytes:
        return cbor.encode([self.VERSION, self.request, self.token_in, self.token_out])

    @property
    def digest(self) -> PriceDigest:
        return PriceDigest(tagged_sha256(PRICE_TAG, self.encode()))

    def cycles(self, tokens_in: int, tokens_out: int) -> int:
        return self.request + tokens_in * self.token_in + tokens_out * self.token_out


FREE: Final = PriceSchedule(0, 0, 0)
"""Where a configuration names no price."""
