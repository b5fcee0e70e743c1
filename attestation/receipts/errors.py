"""What a receipt, or the log it stands in, is refused for. Catch `ReceiptRefused` for all of it."""

from __future__ import annotations

from foundation.refusal import StagedRefused


class ReceiptRefused(StagedRefused):
    """Base of the family: nothing else leaves a parser or a check of this room."""

    stage = "receipt"


class PriceRefused(ReceiptRefused):
    """A price that cannot be counted in."""

    stage = "price"


class ReceiptSignatureRefused(ReceiptRefused):
    """A signature that does not hold, or a key that may not sign."""

    stage = "receipt-signature"


class CheckpointRefused(ReceiptRefused):
    """A checkpoint that is malformed, or not this log's."""

    stage = "checkpoint"


class ForkRefused(ReceiptRefused):
    """A document that convicts nobody."""

    stage = "fork"
