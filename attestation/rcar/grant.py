"""What is said about a released key, and who says it.

The broker signs twice: the challenge (so a cell attests to nobody else) and the sealed grant (so a cell takes a key
from nobody else). Both keys of the conversation, the broker's and the cell's, are bound in both (R7, R14, R15).

    context = dCBOR [3, purpose, resource, version, release, model root, measurement, adoption, decision, position,
                     nonce, key, [first, renew, last] / null]
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import Enum
from typing import ClassVar, Final, NewType, Self

from attestation.rcar.encodings import from_base64url, to_base64url
from attestation.rcar.errors import GrantRefused
from attestation.rcar.jwe import Sealed
from foundation import cbor, ed25519
from foundation.digests import DIGEST_BYTES, tagged_sha256
from foundation.ed25519 import Signer
from foundation.refusal import difference, outline
from foundation.sized import Digest32
from measurements.digests import DecisionDigest, ModelRoot
from measurements.launch.errors import LaunchRefused
from measurements.launch.measurement import LaunchMeasurement, read_measurement
from measurements.release.heights import HEIGHT_MAX

EntryDigest = NewType("EntryDigest", Digest32)
"""Of an entry of the broker's log."""

CHALLENGE_TAG: Final = "anchorhold/broker/challenge/v1"
GRANT_TAG: Final = "anchorhold/broker/grant/v1"
CONTEXT_MEMBER: Final = "anchorhold"
SIGNATURE_MEMBER: Final = "anchorhold-signature"
SIGNATURE_BYTES: Final = 64
CONTEXT_BYTES_MAX: Final = 2048
NO_ADOPTION: Final = DecisionDigest(Digest32(bytes(DIGEST_BYTES)))
"""In the place of a decision: an administrator approved, and nobody else was asked."""
_LIMITS: Final = cbor.Limits(bytes_max=CONTEXT_BYTES_MAX, depth_max=2, items_max=20)


class GrantPurpose(Enum):
    """What a key is for. The middle of a resource's path says it, so one can never be had as the other (R12)."""

    MODEL = "model-key"
    SERVICE = "service-key"
    PLAIN = "resource"  # for a client that speaks the protocol and knows nothing of ours


_PURPOSES: Final = frozenset(purpose.value for purpose in GrantPurpose)


@dataclass(frozen=True, slots=True)
class GrantHeights:
    """The blocks that a grant is for, both ends included; from `renew` on the cell may ask for the next grant."""

    first: int
    renew: int
    last: int

    def __post_init__(self) -> None:
        if not 1 <= self.first <= self.renew <= self.last <= HEIGHT_MAX:
            raise GrantRefused(
                "grant.heights",
                expected="first, renew and last in this order",
                got=f"{self.first}, {self.renew}, {self.last}",
            )

    def __contains__(self, height: int) -> bool:
        return self.first <= height <= self.last


@dataclass(frozen=True, slots=True)
class GrantContext:
    """All that a grant is about. `decision` is the digest of its entry in the broker's log, at `position`; `adoption`
    that of the governance decision by which the release may have keys, or zeros: the administrator's word alone.
    `heights` is None for a plain client alone, which answers no block."""

    VERSION: ClassVar[int] = 3
    purpose: GrantPurpose
    resource: str
    version: int
    release: str
    model_root: ModelRoot
    measurement: LaunchMeasurement
    adoption: DecisionDigest
    decision: EntryDigest
    position: int
    nonce: bytes
    key: bytes
    heights: GrantHeights | None

    def encode(self) -> bytes:
        return cbor.encode(
            [
                self.VERSION,
                self.purpose.value,
                self.resource,
                self.version,
                self.release,
                self.model_root,
                self.measurement.encode(),
                self.adoption,
                self.decision,
                self.position,
                self.nonce,
                self.key,
                None if self.heights is None else [self.heights.first, self.heights.renew, self.heights.last],
            ]
        )

    @classmethod
    def parse(cls, raw: bytes) -> Self:
        """Raises `GrantRefused`, nothing else."""
        value = cbor.decode_or(GrantRefused, "grant.context", raw, _LIMITS)
        match value:
            case [
                3,
                str(purpose),
                str(resource),
                int(version),
                str(release),
                bytes(model_root),
                bytes(measurement),
                bytes(adoption),
                bytes(decision),
                int(position),
                bytes(nonce),
                bytes(key),
                heights,
            ] if purpose in _PURPOSES and {len(model_root), len(adoption), len(decision)} == {DIGEST_BYTES}:
                context = cls(
                    purpose=GrantPurpose(purpose),
                    resource=resource,
                    version=version,
                    release=release,
                    model_root=ModelRoot(Digest32(model_root)),
                    measurement=_measurement(measurement),
                    adoption=DecisionDigest(Digest32(adoption)),
                    decision=EntryDigest(Digest32(decision)),
                    position=position,
                    nonce=nonce,
                    key=key,
                    heights=_heights(heights),
                )
            case _:
                raise GrantRefused("grant.context", expected="a context of version 3", got=outline(value))
        # True and false count as numbers to Python, not to the encoding.
        if context.encode() != raw or any(type(part) is bool for part in value):
            raise GrantRefused(
                "grant.context", expected="numbers where they belong", got=difference(raw, context.encode())
            )
        return context


def _measurement(raw: bytes) -> LaunchMeasurement:
    try:
        return read_measurement(raw)
    except LaunchRefused as refusal:
        raise GrantRefused("grant.context", expected=refusal.expected, got=refusal.got) from None


def _heights(value: cbor.Value) -> GrantHeights | None:
    match value:
        case None:
            return None
        case [int(first), int(renew), int(last)] if not any(type(part) is bool for part in value):
            return GrantHeights(first, renew, last)
        case _:
            raise GrantRefused("grant.context", expected="[first, renew, last] or null", got=outline(value))


def sign_challenge(signer: Signer, nonce: bytes, request: bytes) -> bytes:
    """Over the nonce and the digest of the request it answers."""
    return signer.sign(_challenge(nonce, request))


def check_challenge(broker: bytes, signature: bytes, nonce: bytes, request: bytes) -> None:
    """Raises `GrantRefused` unless this broker challenged this request."""
    _verify(broker, signature, _challenge(nonce, request), "challenge.broker")


def header_of(context: GrantContext) -> dict[str, str]:
    """What goes into the protected header of the sealed resource."""
    return {CONTEXT_MEMBER: to_base64url(context.encode())}


def signed(sealed: Sealed, signer: Signer) -> Sealed:
    """The sealed resource with the broker's signature beside it."""
    signature = signer.sign(_grant(sealed))
    return replace(sealed, unprotected={SIGNATURE_MEMBER: to_base64url(signature)})


def checked_context(sealed: Sealed, broker: bytes) -> GrantContext:
    """The context of a grant this broker signed. Raises `RcarRefused`; whose grant it is, the caller compares."""
    signature = from_base64url("grant.signature", sealed.unprotected.get(SIGNATURE_MEMBER), bytes_max=SIGNATURE_BYTES)
    _verify(broker, signature, _grant(sealed), "grant.broker")
    raw = sealed.protected_members().get(CONTEXT_MEMBER)
    return GrantContext.parse(from_base64url("grant.context", raw, bytes_max=CONTEXT_BYTES_MAX))


def _challenge(nonce: bytes, request: bytes) -> bytes:
    return tagged_sha256(CHALLENGE_TAG, cbor.encode([nonce, request]))


def _grant(sealed: Sealed) -> bytes:
    return tagged_sha256(GRANT_TAG, cbor.encode(list(sealed.parts)))


def _verify(broker: bytes, signature: bytes, message: bytes, code: str) -> None:
    if not ed25519.holds(broker, signature, message):
        expected = f"signed by the broker {broker.hex()}, measured into this cell"
        raise GrantRefused(code, expected=expected, got=f"{len(signature)} bytes that do not verify")
