"""A decision as a file: the payload that was decided, and the proof that it was.

    [1, payload bstr, [0, {key bstr32: signature bstr64}]]                                    by a charter
    [1, payload bstr, [1, certificate bstr, [argument, sender, expiry ns, nonce or null]]]    by a canister

dCBOR. Parsed here, believed by `history` alone. A decision is named by what was decided and by whom: its digest covers
the payload and the authority, and not the proof, so that every copy of one decision has one name, whichever of the
members signed the copy and whenever its certificate was fetched.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar, Final, Self, TypeAlias

from foundation import cbor
from foundation.digests import tagged_sha256
from foundation.refusal import difference, outline
from measurements.digests import DecisionDigest
from measurements.governance.actions import PAYLOAD_BYTES_MAX, payload_digest
from measurements.governance.charter import KEY_BYTES, MEMBERS_MAX
from measurements.governance.errors import DecisionRefused

DIGEST_TAG: Final = "anchorhold/governance/decision/v1"
GENESIS_TAG: Final = "anchorhold/governance/genesis/v1"
SIGNATURE_BYTES: Final = 64
CERTIFICATE_BYTES_MAX: Final = 256 * 1024
DECISION_BYTES_MAX: Final = PAYLOAD_BYTES_MAX + CERTIFICATE_BYTES_MAX + 4096
_LIMITS: Final = cbor.Limits(bytes_max=DECISION_BYTES_MAX, depth_max=4, items_max=4 * MEMBERS_MAX + 32)


@dataclass(frozen=True, slots=True)
class Signatures:
    """Members' signatures over the decision's digest, by key."""

    by_key: Mapping[bytes, bytes]


@dataclass(frozen=True, slots=True)
class CertifiedReply:
    """An update call to the governance canister, and the certificate that holds its answer."""

    certificate: bytes = field(repr=False)
    argument: bytes
    sender: bytes
    expiry_ns: int
    nonce: bytes | None


Proof: TypeAlias = Signatures | CertifiedReply


@dataclass(frozen=True, slots=True)
class Decision:
    VERSION: ClassVar[int] = 1
    payload: bytes = field(repr=False)
    proof: Proof

    @classmethod
    def parse(cls, raw: bytes) -> Self:
        """Raises `DecisionRefused`, nothing else."""
        value = cbor.decode_or(DecisionRefused, "decision.cbor", raw, _LIMITS)
        match value:
            case [1, bytes(payload), [0, dict(signatures)]]:
                decision = cls(payload, Signatures(_signatures(signatures)))
            case [
                1,
                bytes(payload),
                [1, bytes(certificate), [bytes(argument), bytes(sender), int(expiry_ns), bytes() | None as nonce]],
            ] if type(expiry_ns) is int and expiry_ns >= 0:
                decision = cls(payload, CertifiedReply(certificate, argument, sender, expiry_ns, nonce))
            case _:
                raise DecisionRefused("decision.shape", expected="a decision of version 1", got=outline(value))
        if decision.encode() != raw:  # true matches 1 in Python, and not in the encoding
            raise DecisionRefused(
                "decision.shape", expected="numbers where they belong", got=difference(raw, decision.encode())
            )
        return decision

    def encode(self) -> bytes:
        proof: cbor.Encodable
        match self.proof:
            case Signatures(by_key):
                proof = [0, dict(by_key)]
            case CertifiedReply(certificate, argument, sender, expiry_ns, nonce):
                proof = [1, certificate, [argument, sender, expiry_ns, nonce]]
        return cbor.encode([self.VERSION, self.payload, proof])


def genesis(authority: bytes) -> bytes:
    """What the first decision under an authority stands behind: nobody else's history can be put there."""
    return tagged_sha256(GENESIS_TAG, authority)


def decision_digest(authority: bytes, payload: bytes) -> DecisionDigest:
    """What a decision is named by: in the next one, in grants and in receipts."""
    return DecisionDigest(tagged_sha256(DIGEST_TAG, cbor.encode([1, authority, payload_digest(payload)])))


def _signatures(value: Mapping[cbor.Key, cbor.Value]) -> Mapping[bytes, bytes]:
    found = {
        key: signature
        for key, signature in value.items()
        if isinstance(key, bytes)
        and len(key) == KEY_BYTES
        and isinstance(signature, bytes)
        and len(signature) == SIGNATURE_BYTES
    }
    if len(found) != len(value) or not 1 <= len(found) <= 2 * MEMBERS_MAX:
        raise DecisionRefused(
            "decision.signatures",
            expected="keys of 32 bytes, signatures of 64",
            got=f"{len(value)} entries, {len(found)} of them of these sizes",
        )
    return found
