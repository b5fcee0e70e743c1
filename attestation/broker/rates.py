"""How often one address, and all together, may ask: token buckets, on a clock that is an argument."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from typing import Final

ADDRESSES_MAX: Final = 4096


@dataclass(frozen=True, slots=True)
class Rate:
    """So many at once, and so many a second after that."""

    burst: float
    per_second: float


class Bucket:
    __slots__ = ("_at", "_left", "_rate")

    def __init__(self, rate: Rate, now: float) -> None:
        self._rate, self._left, self._at = rate, rate.burst, now

    def take(self, now: float) -> bool:
        self._left = min(self._rate.burst, self._left + (now - self._at) * self._rate.per_second)
        self._at = now
        if self._left < 1:
            return False
        self._left -= 1
        return True


class RateLimits:
    """One bucket for everybody, one for each of the addresses seen last: memory is bounded whoever asks."""

    def __init__(self, each: Rate, all_together: Rate, now: float) -> None:
        self._each: Final = each
        self._all: Final = Bucket(all_together, now)
        self._addresses: Final[OrderedDict[str, Bucket]] = OrderedDict()

    def allows(self, address: str, now: float) -> bool:
        bucket = self._addresses.pop(address, None) or Bucket(self._each, now)
        self._addresses[address] = bucket
        if len(self._addresses) > ADDRESSES_MAX:
            self._addresses.popitem(last=False)
        return bucket.take(now) and self._all.take(now)
