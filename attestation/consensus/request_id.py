"""Request ids, and the certified reply of an update call.

An id is the hash of what was asked, however it was encoded: canister, method, argument, sender, expiry. So a
certified reply proves what that canister's method returned only to who recomputes the id from the call.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import TypeAlias, Union

from attestation.consensus import principal
from attestation.consensus.certificate import VerifiedCertificate
from attestation.consensus.refusals import EncodingRefused, LookupRefused, RangesRefused
from foundation import leb128

Field: TypeAlias = Union[bytes, str, int, "Sequence[Field]", "Mapping[str, Field]"]


def representation_independent_hash(fields: Mapping[str, Field]) -> bytes:
    """The Interface Specification's hash of a map: over its fields' hashes, in their order."""
    hashed = sorted(sha256(name.encode()).digest() + _hash(fields[name]) for name in fields)
    return sha256(b"".join(hashed)).digest()


def _hash(value: Field) -> bytes:
    if isinstance(value, bytes):
        return sha256(value).digest()
    if isinstance(value, str):
        return sha256(value.encode()).digest()
    if isinstance(value, int) and not isinstance(value, bool):
        if value < 0:
            raise EncodingRefused("request.field", expected="a natural number", got=f"{value}")
        return sha256(leb128.unsigned(value)).digest()
    if isinstance(value, Mapping):
        return representation_independent_hash(value)
    if isinstance(value, Sequence):
        return sha256(b"".join(_hash(item) for item in value)).digest()
    raise EncodingRefused("request.field", expected="bytes, text, numbers, lists, maps", got=type(value).__name__)


@dataclass(frozen=True, slots=True)
class UpdateCall:
    """What was asked of a canister: all that its request id covers."""

    canister: bytes
    method: str
    argument: bytes
    sender: bytes
    expiry_ns: int
    nonce: bytes | None = None

    def __post_init__(self) -> None:
        principal.check(self.canister)
        principal.check(self.sender)

    @property
    def request_id(self) -> bytes:
        fields: dict[str, Field] = {
            "request_type": "call",
            "canister_id": self.canister,
            "method_name": self.method,
            "arg": self.argument,
            "sender": self.sender,
            "ingress_expiry": self.expiry_ns,
        }
        if self.nonce is not None:
            fields["nonce"] = self.nonce
        return representation_independent_hash(fields)


def certified_reply(certificate: VerifiedCertificate, call: UpdateCall) -> bytes:
    """What `call` was answered, by consensus.

    Refuses a certificate of another canister than the call's, and every status but `replied`.
    """
    if certificate.canister is None or certificate.canister != call.canister:
        raise RangesRefused(
            "ranges.unchecked",
            expected="a certificate verified for the canister called",
            got="none" if certificate.canister is None else certificate.canister.hex(),
        )
    status = certificate.demand((b"request_status", call.request_id, b"status"))
    if status != b"replied":
        raise LookupRefused("lookup.status", expected="replied", got=_word(status))
    return certificate.demand((b"request_status", call.request_id, b"reply"))


def _word(status: bytes) -> str:
    return status.decode() if status in _STATUSES else "no status we know"


_STATUSES = frozenset({b"received", b"processing", b"rejected", b"done", b"unknown"})
