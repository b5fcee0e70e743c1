"""The service keys a running cell holds: the newest ring, and those that blocks wait for.

A block is released under a ring that speaks for its height, and holds that ring until it is answered, however many
newer ones come meanwhile. Two rings that speak for a height hold the same keys for it, so it does not matter which of
them it is (docs/spec/answer.md A8, A9).
"""

from __future__ import annotations

from typing import Final

from appliance.ordering.sequencer import OrderedRequest
from attestation.sealed.errors import SealedRefused
from attestation.sealed.request import Place, Unsealed, unseal
from attestation.sealed.ring import Ring


class Rings:
    """Changed on the event loop, read on the device's thread: each change is one assignment or one item."""

    def __init__(self, ring: Ring | None = None) -> None:
        self._rings: tuple[Ring, ...] = () if ring is None else (ring,)
        self._held: Final[dict[int, Ring]] = {}  # by the height of a block that waits for its answers

    @property
    def newest(self) -> Ring | None:
        return self._rings[0] if self._rings else None

    @property
    def kept(self) -> tuple[Ring, ...]:
        """Every ring there is a use for, newest first."""
        held = [ring for ring in self._held.values() if ring not in self._rings]
        return (*self._rings, *dict.fromkeys(held))

    def of(self, height: int) -> Ring | None:
        return next((ring for ring in self._rings if ring.speaks_for(height)), None)

    def renew(self, ring: Ring) -> None:
        """It takes the place of every ring that speaks for no earlier block than it does."""
        self._rings = (ring, *(each for each in self._rings if each.first < ring.first))

    def covers(self, height: int) -> bool:
        """Whether a block of this height may be released: always where no service key is held."""
        return not self._rings or self.of(height) is not None

    def hold(self, height: int) -> None:
        """This block was released. Rings that no later block needs stay for the blocks that hold them alone."""
        ring = self.of(height)
        if ring is not None:
            self._held[height] = ring
        newest = self.newest
        if newest is not None and newest.speaks_for(height + 1):
            self._rings = (newest,)

    def answered(self, height: int) -> None:
        """Every request of this block has its receipt."""
        self._held.pop(height, None)

    def unseal(self, request: OrderedRequest, place: Place) -> Unsealed:
        """What is inside. Raises `SealedRefused`, the same on every cell."""
        ring = self._held.get(request.height) or self.of(request.height)
        if ring is None:  # of a block that `covers` let pass there is one
            raise SealedRefused("key", expected="a key for this block", got="none")
        return unseal(request.payload.reveal(), ring, place, height=request.height, caller=request.caller)
