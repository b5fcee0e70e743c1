"""Every way evidence can be refused, one class per stage, so that a caller catches one family.

The stage says who has to act. `format` and a bad policy document are the sender's bytes; `chain`,
`signature`, `binding` and `revoked` mean the evidence is not genuine; `collateral` means nobody can tell
yet, because a certificate or list is missing or out of date; `policy` means genuine, and not wanted.
"""

from __future__ import annotations

from foundation.refusal import Refused


class EvidenceRefused(Refused):
    """Base of the family: nothing else leaves a parser, a verifier or a policy of this room."""

    stage = "evidence"


class FormatRefused(EvidenceRefused):
    """The bytes are not what they are called: wrong size, unknown version, a reserved byte set, bad DER."""

    stage = "format"


class NotGenuine(EvidenceRefused):
    """The evidence does not come from where it says. The subclass names the proof that failed."""

    stage = "not genuine"


class ChainRefused(NotGenuine):
    """A certificate does not lead to a pinned root, or is not the kind of certificate its place needs."""

    stage = "chain"


class SignatureRefused(NotGenuine):
    """The evidence is not signed by the key of the certificate that came with it."""

    stage = "signature"


class BindingRefused(NotGenuine):
    """Signed, but the certificate speaks of another chip, product, firmware level or kind of key."""

    stage = "binding"


class Revoked(NotGenuine):
    """A revocation list signed by the right authority names a certificate of the chain."""

    stage = "revoked"


class CollateralMissing(EvidenceRefused):
    """A certificate or list needed to decide is absent, expired or not yet valid at the stated time."""

    stage = "collateral"


class PolicyMalformed(EvidenceRefused):
    """A policy or reference document cannot be read: the message names the line, the field and what fits."""

    stage = "policy document"


class PolicyRefused(EvidenceRefused):
    """Genuine, and refused by the policy. The appraisal lists every claim; this names the first unmet one."""

    stage = "policy"
