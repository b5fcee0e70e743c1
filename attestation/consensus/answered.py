"""What a gateway's subnet certifies of one request's answers: a record in the tree beside the link.

    record = verify_answered(proof, number, root_key=..., canister=...)      None: certified that there is no answer
    record.digests                                                          of the receipts' bodies, the first one first

The rules are O42 to O45 of docs/spec/order.md. Established: the canister had this record at the certified time,
so the subnet and not one of its nodes says what was reported, for which request. Not established: that what was
reported is right. That is the receipt's to show, with the cell's evidence.
"""

from __future__ import annotations

from dataclasses import InitVar, dataclass
from typing import Final

from attestation.consensus.blocks import UINT_MAX, RequestDigest, array, digest, uint
from attestation.consensus.certificate import demanded, parse_certificate, verify_certificate
from attestation.consensus.delegation import DelegationCache
from attestation.consensus.hashtree import Absent, lookup
from attestation.consensus.hashtree import parse as parse_tree
from attestation.consensus.refusals import ConsensusRefused
from foundation import cbor
from foundation.refusal import StagedRefused, shape

ANSWERS_LABEL: Final = b"answers"
ALTERNATIVES_MAX: Final = 4
RECORD_BYTES_MAX: Final = 256
_LIMITS: Final = cbor.Limits(bytes_max=RECORD_BYTES_MAX, depth_max=2, items_max=8 + ALTERNATIVES_MAX)
_MAKER: Final = object()


class AnsweredRefused(StagedRefused, ConsensusRefused):
    """A certified record that is none, or one of another request."""

    stage = "answered"


@dataclass(frozen=True, slots=True)
class AnsweredProof:
    """A certificate and the canister's tree, as `take_answer` and `prove_answer` give them."""

    certificate: bytes
    tree: bytes


@dataclass(frozen=True, slots=True)
class CertifiedAnswers:
    """What the subnet says was reported for one request. Only `verify_answered` makes one."""

    id: int
    height: int
    index: int
    request: RequestDigest
    digests: tuple[bytes, ...]  # of the receipts (receipt.md T7), the first reported first; none: it expired
    certified_time_ns: int
    made_by: InitVar[object]

    def __post_init__(self, made_by: object) -> None:
        if made_by is not _MAKER:
            raise TypeError("a CertifiedAnswers comes from verify_answered alone")

    @property
    def expired(self) -> bool:
        return not self.digests


def id_label(number: int) -> bytes:
    return number.to_bytes(8, "big")


def verify_answered(
    proof: AnsweredProof, number: int, *, root_key: bytes, canister: bytes, cache: DelegationCache | None = None
) -> CertifiedAnswers | None:
    """The record of request `number`, or None if the subnet certifies that there is none. Raises `ConsensusRefused`."""
    if not 0 <= number <= UINT_MAX:
        raise AnsweredRefused("id", expected=f"0 to {UINT_MAX}", got=number)
    verified = verify_certificate(
        parse_certificate(proof.certificate), root_key=root_key, canister=canister, cache=cache
    )
    tree = verified.certified_tree(parse_tree(proof.tree))
    path = (ANSWERS_LABEL, id_label(number))
    match lookup(tree, path):
        case Absent():
            return None
        case found:
            return _record(demanded(found, path), number, verified.time_ns)


def _record(raw: bytes, number: int, certified_time_ns: int) -> CertifiedAnswers:
    value = cbor.decode_or(AnsweredRefused, "record", raw, _LIMITS)
    height, index, request, digests = array(value, 4, "answered")
    if type(digests) is not list or len(digests) > ALTERNATIVES_MAX:
        raise AnsweredRefused("digests", expected=f"at most {ALTERNATIVES_MAX} digests", got=shape(digests))
    found = tuple([digest(each, "answered") for each in digests])
    if len(set(found)) != len(found):
        raise AnsweredRefused(
            "digests", expected="different digests", got=f"{len(found)} digests, {len(set(found))} of them distinct"
        )
    return CertifiedAnswers(
        number,
        uint(height, "answered"),
        uint(index, "answered"),
        RequestDigest(digest(request, "answered")),
        found,
        certified_time_ns,
        _MAKER,
    )
