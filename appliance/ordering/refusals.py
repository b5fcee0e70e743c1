"""The refusals of ordering. `Forked` is different: it is an alarm, not a bad delivery."""

from __future__ import annotations

from foundation.refusal import StagedRefused


class OrderRefused(StagedRefused):
    """Something genuine at the wrong place: ahead of us, unproven, or more than we hold."""

    stage = "order"


class Forked(OrderRefused):
    """A subnet's certificate for a history that is not ours (O25, O26): not both can be the gateway's chain.

    It says that the gateway was reinstalled, that its subnet lied, or that a key leaked. The sequencer that
    raised it is unharmed and goes on along its own chain; someone must be told.
    """

    def __init__(self, code: str, *, height: int, ours: bytes, theirs: bytes, expected: object, got: object) -> None:
        hint = f"an alarm: theirs is {theirs.hex()}, ours {ours.hex()}"
        super().__init__(code, expected=expected, got=got, hint=hint)
        self.height = height  # of `theirs`; after a rewind `ours` is the end of our plan
        self.ours = ours
        self.theirs = theirs
