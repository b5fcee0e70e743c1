"""What this room refuses, by stage. Catch `ConsensusRefused` for all of it; `code` is stable."""

from __future__ import annotations

from foundation.refusal import Refused


class ConsensusRefused(Refused):
    """A subnet did not say this, or what it said does not reach as far as it was used."""

    stage = "consensus"


class EncodingRefused(ConsensusRefused):
    """Bytes that are no certificate, hash tree, principal or key; nothing was checked yet."""

    stage = "format"


class BlsRefused(ConsensusRefused):
    """A BLS signature or key that does not hold."""

    stage = "signature"


class DelegationRefused(ConsensusRefused):
    """The root did not hand this subnet the key that was used."""

    stage = "delegation"


class RangesRefused(ConsensusRefused):
    """The subnet is real and does not speak for this canister."""

    stage = "ranges"


class LookupRefused(ConsensusRefused):
    """The certificate is sound and does not say what was asked of it."""

    stage = "lookup"


class TreeRefused(ConsensusRefused):
    """A tree that is not the one the canister certified."""

    stage = "data tree"


class TimeRefused(ConsensusRefused):
    """The certified time is malformed, or too far from the time it was held against."""

    stage = "time"
