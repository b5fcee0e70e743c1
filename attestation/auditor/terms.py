"""Whom an auditor believes, and what else they bring: everything an audit depends on beside the bundle."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol

from attestation.consensus.roots import MAINNET_ROOT_KEY
from attestation.policy.document import Policy
from measurements.digests import ConfigurationDigest, DecisionDigest, ModelRoot
from measurements.launch.measurement import LaunchMeasurement
from measurements.reference import ReferenceValues
from measurements.release.heights import Heights


@dataclass(frozen=True, slots=True)
class WantedDecision:
    """What a governance decision has to be about, for this bundle's cells to have run under it."""

    adoption: DecisionDigest  # the decision's digest, as grant and receipts name it
    release: str
    measurement: LaunchMeasurement
    config: ConfigurationDigest
    model_root: ModelRoot | None


@dataclass(frozen=True, slots=True)
class Adopted:
    """Who decided what, in words; and the blocks the release is for, as far as what is shown of decisions goes."""

    words: str
    heights: Heights


class DecisionReader(Protocol):
    """Reads the document behind an adoption. The one place where governance and an audit meet."""

    def read(self, document: bytes, about: WantedDecision, terms: AuditTerms) -> Adopted:
        """Raises a `Refused` unless the document has that digest, holds, and allows it."""
        ...


@dataclass(frozen=True, slots=True)
class AuditTerms:
    """`at`: when evidence is judged; None for the time the subnet certified. `seen`: checkpoints from elsewhere."""

    policy: Policy
    references: ReferenceValues = field(default_factory=ReferenceValues.none)
    root_key: bytes = MAINNET_ROOT_KEY
    gateway: bytes | None = None
    at: datetime | None = None
    simulated_root: bytes | None = None
    nonces: tuple[bytes, ...] = ()
    seen: tuple[bytes, ...] = ()
    decisions: DecisionReader | None = None
