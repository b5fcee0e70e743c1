"""The service keys a running cell holds: the ring it was given, and the one before it.

Blocks that were released under the older ring may still wait to run when a newer one comes; each is answered under a
ring that speaks for its height, and two that do hold the same keys for it (docs/spec/answer.md A8, A9).
"""

from __future__ import annotations

from appliance.ordering.sequencer import OrderedRequest
from attestation.sealed.request import Place, Unsealed, unseal
from attestation.sealed.ring import Ring


class Rings:
    """Set on the event loop, read on the device's thread: one assignment of one tuple."""

    def __init__(self, ring: Ring | None = None) -> None:
        self._rings: tuple[Ring, ...] = () if ring is None else (ring,)

    @property
    def newest(self) -> Ring | None:
        return self._rings[0] if self._rings else None

    def of(self, height: int) -> Ring | None:
        return next((ring for ring in self._rings if ring.speaks_for(height)), None)

    def renew(self, ring: Ring) -> None:
        if ring is not self.newest:
            self._rings = (ring, *self._rings[:1])

    def covers(self, height: int) -> bool:
        """Whether a block of this height may be released: always where no service key is held."""
        return not self._rings or self.of(height) is not None

    def unseal(self, request: OrderedRequest, place: Place) -> Unsealed:
        """What is inside. Raises `SealedRefused`, the same on every cell."""
        ring = self.of(request.height)
        if ring is None:
            raise AssertionError("a block was released that no ring speaks for")    # answer.md A9: end, never diverge
        return unseal(request.payload.reveal(), ring, place, height=request.height, caller=request.caller)
