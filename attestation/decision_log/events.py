"""What an entry of the decision log may say: a closed set of types, one for each thing that a broker writes down.

The fields of a type are the members of the entry's details, under the same names; a field that is a type itself
(`Cell`, `Blocks`) contributes its own. A field that is None is left out. No entry holds a secret, wrapped or not.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar, Final, TypeAlias, get_args

from attestation.decision_log.words import By, ReleaseState, RevocationKind
from attestation.evidence.kinds import TeeKind
from attestation.rcar.grant import GrantPurpose
from measurements.digests import ConfigurationDigest, DecisionDigest, ModelRoot
from measurements.launch.measurement import LaunchMeasurement
from measurements.release.heights import Heights

Digest: TypeAlias = Annotated[bytes, (32,)]
Root: TypeAlias = Annotated[ModelRoot, (32,)]
Configuration: TypeAlias = Annotated[ConfigurationDigest, (32,)]
Adoption: TypeAlias = Annotated[DecisionDigest, (32,)]
DigestOrNone: TypeAlias = Annotated[bytes, (0, 32)]
"""Bytes, with the lengths they may have."""


@dataclass(frozen=True, slots=True)
class Cell:
    """Who was admitted: the release and the machine, and the keys in the evidence. `keyset` is empty for a client that
    binds none, `chip` where nobody can name it."""

    tee: TeeKind
    nonce: bytes
    release: str
    adoption: Adoption
    measurement: LaunchMeasurement
    chip: bytes
    keyset: DigestOrNone
    key: bytes
    policy: str


@dataclass(frozen=True, slots=True)
class Blocks:
    """The blocks of a grant, both ends included."""

    first: int
    last: int

    def __post_init__(self) -> None:
        if not 1 <= self.first <= self.last:
            raise ValueError(f"blocks {self.first} to {self.last}")

    @property
    def heights(self) -> Heights:
        return Heights(self.first, self.last)


@dataclass(frozen=True, slots=True)
class Began:
    """The first entry of a log."""

    kind: ClassVar[str] = "began"
    broker: Digest


@dataclass(frozen=True, slots=True)
class Started:
    kind: ClassVar[str] = "started"
    policy: str


@dataclass(frozen=True, slots=True)
class Admitted:
    """A cell's evidence was accepted."""

    kind: ClassVar[str] = "admitted"
    cell: Cell


@dataclass(frozen=True, slots=True)
class Granted:
    """A key was given. `blocks` is None for a resource that is no key of a release."""

    kind: ClassVar[str] = "granted"
    cell: Cell
    resource: str
    version: int
    purpose: GrantPurpose
    blocks: Blocks | None = None


@dataclass(frozen=True, slots=True)
class EvidenceDenied:
    """Evidence was refused, under this code."""

    kind: ClassVar[str] = "denied"
    tee: TeeKind
    nonce: bytes
    code: str
    policy: str


@dataclass(frozen=True, slots=True)
class ResourceDenied:
    """An admitted cell asked for a resource and was refused, under this code."""

    kind: ClassVar[str] = "denied"
    cell: Cell
    resource: str
    purpose: GrantPurpose
    code: str


@dataclass(frozen=True, slots=True)
class ReleaseAdded:
    """`last_height` is 0 where the blocks of a release have no end."""

    kind: ClassVar[str] = "release-added"
    release: str
    measurement: LaunchMeasurement
    model_root: Root
    measured_config: Configuration
    state: ReleaseState
    adoption: Adoption
    minimum_tcb: bytes
    first_height: int
    last_height: int
    lease: int
    by: By


@dataclass(frozen=True, slots=True)
class ReleaseChanged:
    """`last_height`: where its blocks now end; None leaves them as they are."""

    kind: ClassVar[str] = "release-changed"
    release: str
    state: ReleaseState
    by: By
    last_height: int | None = None


@dataclass(frozen=True, slots=True)
class RevocationAdded:
    kind: ClassVar[str] = "revoked"
    what: RevocationKind
    value: bytes


@dataclass(frozen=True, slots=True)
class SecretAdded:
    kind: ClassVar[str] = "secret-added"
    resource: str
    version: int
    purpose: GrantPurpose
    model_root: DigestOrNone


@dataclass(frozen=True, slots=True)
class SecretRotated:
    """A new version; the older ones were forgotten."""

    kind: ClassVar[str] = "secret-rotated"
    resource: str
    version: int
    purpose: GrantPurpose
    model_root: DigestOrNone


@dataclass(frozen=True, slots=True)
class SecretRevoked:
    kind: ClassVar[str] = "secret-revoked"
    resource: str


@dataclass(frozen=True, slots=True)
class Governed:
    """From here on decisions count. `authority` is SHA-256 of the document, `digest` what names that authority."""

    kind: ClassVar[str] = "governed"
    authority: Digest
    digest: Digest
    authority_kind: Annotated[str, "kind"]  # the member's name, which is the entry's own here


@dataclass(frozen=True, slots=True)
class DecisionTaken:
    """A decision was taken over. `file` is SHA-256 of it with its proof; `certified_ns` is 0 without a certificate."""

    kind: ClassVar[str] = "decided"
    decision: Adoption
    at: int
    action: str
    subject: str
    by: str
    file: Digest
    certified_ns: int


@dataclass(frozen=True, slots=True)
class KeyRotated:
    kind: ClassVar[str] = "key-rotated"
    resource: str
    least_version: int


@dataclass(frozen=True, slots=True)
class HeightShown:
    kind: ClassVar[str] = "height-shown"
    height: int
    gateway: bytes


Event: TypeAlias = (
    Began
    | Started
    | Admitted
    | Granted
    | EvidenceDenied
    | ResourceDenied
    | ReleaseAdded
    | ReleaseChanged
    | RevocationAdded
    | SecretAdded
    | SecretRotated
    | SecretRevoked
    | Governed
    | DecisionTaken
    | KeyRotated
    | HeightShown
)

TYPES: Final[tuple[type[Event], ...]] = get_args(Event)
