"""Which blocks one grant is for, so that no block is ever granted to two releases (docs/spec/key-release.md R34, R35).

A cell cannot be told to stop: the host stands between. So no grant is without an end. Each reaches a lease beyond the
height that the broker was shown, and is renewed as the chain grows; a release that comes later begins behind whatever
was granted before. What was decided about a release's blocks narrows this further, and what was granted stands.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from attestation.broker.errors import Denied
from attestation.rcar.grant import GrantHeights
from measurements.digests import DecisionDigest
from measurements.release.heights import Heights


class Leased(Protocol):
    """What there is to know of a release here."""

    @property
    def name(self) -> str: ...
    @property
    def adoption(self) -> DecisionDigest: ...
    @property
    def heights(self) -> Heights: ...
    @property
    def lease(self) -> int: ...


def lease_of(release: Leased, shown: int, granted: Mapping[tuple[str, DecisionDigest], Heights]) -> GrantHeights:
    """The blocks of the next grant to `release`. `granted`: all that was granted before, none of it twice, by release
    and by whose word it is one: receipts name both. Raises `Denied` where nothing is left for it."""
    mine = release.name, release.adoption
    held = granted.get(mine)
    others = sorted((each for name, each in granted.items() if name != mine), key=lambda each: each.first)
    first = release.heights.first if held is None else held.first
    for each in others:
        if held is None and first in each:
            first = each.end + 1
    ends = [release.heights.end, max(shown, first - 1) + release.lease]
    ends += [each.first - 1 for each in others if each.first > first]
    last = max(min(ends), 0 if held is None else held.end)
    if last < first:
        raise Denied(
            "release.heights",
            expected=f"blocks of {release.name} that are not granted yet",
            got=f"{release.heights}, and {first} is the next that is free",
        )
    return GrantHeights(first, max(first, last - release.lease // 2), last)
