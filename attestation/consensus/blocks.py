"""Requests, headers and blocks as the gateway seals them: read strictly, hashed, written back byte for byte.

    request  = [id, caller, kind, payload]
    header   = [1, canister, height, parent, beacon, time, first id, count, request root]
             / [2, the same ..., [[first id, count], ...]]          where requests before it expire
    block    = [header, [request, ...]]
    link     = SHA-256(domain || header)          what the next header names as its parent

The rules are O1 to O6, O9 and O36 of docs/spec/order.md. Establishes the form of what came and that a block's
requests are those its own header counts; nothing here says that a subnet ever saw them. That is `slices`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Final, NewType, Self

from attestation.consensus.refusals import ConsensusRefused
from foundation import cbor, merkle
from foundation.digests import DIGEST_BYTES, tagged_sha256
from foundation.limits import BLOCK_REQUESTS_MAX, SLICE_BYTES_MAX
from foundation.refusal import StagedRefused
from foundation.secrecy import Prompt
from foundation.sized import Digest32

Link = NewType("Link", Digest32)
"""The hash that names a header and, through it, every block before it."""
Beacon = NewType("Beacon", Digest32)
RequestDigest = NewType("RequestDigest", Digest32)
"""A request's name (O30)."""
RequestRoot = NewType("RequestRoot", Digest32)

VERSION: Final = 1
VERSION_EXPIRING: Final = 2
PRINCIPAL_BYTES_MAX: Final = 29
REQUESTS_MAX: Final = BLOCK_REQUESTS_MAX
PAYLOAD_BYTES_MAX: Final = 5 << 18  # of one request; the gateway takes less
BODY_BYTES_MAX: Final = SLICE_BYTES_MAX
EXPIRED_RANGES_MAX: Final = 12  # of one header
EXPIRED_IDS_MAX: Final = 65_535  # of one range
HEADER_BYTES_MAX: Final = 166 + EXPIRED_RANGES_MAX * 13  # every field at its widest
HEADER_ITEMS_MAX: Final = 11 + 3 * EXPIRED_RANGES_MAX
BLOCK_BYTES_MAX: Final = HEADER_BYTES_MAX + BODY_BYTES_MAX
UINT_MAX: Final = (1 << 64) - 1

LINK_TAG: Final = "anchorhold/link/v1"
EXPIRED_CODE: Final = "order.expired"  # what the receipt of an expired request says, if a cell makes one (O38)
GENESIS_TAG: Final = "anchorhold/genesis/v1"


class BlockRefused(StagedRefused, ConsensusRefused):
    """Bytes that are no block, or a block that contradicts itself."""

    stage = "block"


class Kind(IntEnum):
    """What a payload is. The numbers are on the chain."""

    PLAIN = 0  # a chat request anyone can read
    SEALED = 1  # ciphertext to the service key


@dataclass(frozen=True, slots=True)
class Request:
    """One prompt as the gateway took it in."""

    id: int
    caller: bytes
    kind: Kind
    payload: Prompt

    def encode(self) -> bytes:
        """The bytes that are hashed into the request root."""
        payload = self.payload.reveal()
        return b"".join(
            (
                b"\x84",
                _uint(self.id),
                _bytes_head(len(self.caller)),
                self.caller,
                _KINDS[self.kind],
                _bytes_head(len(payload)),
                payload,
            )
        )

    def digest(self) -> RequestDigest:
        """The request's leaf in the block's tree, and its name everywhere else (O30)."""
        return RequestDigest(merkle.leaf(self.encode()))


@dataclass(frozen=True, slots=True)
class Ids:
    """Consecutive request ids."""

    first: int
    count: int

    @property
    def end(self) -> int:
        """One beyond the last."""
        return self.first + self.count


@dataclass(frozen=True, slots=True)
class Header:
    """Everything a link vouches for; the requests are in it through their root."""

    canister: bytes
    height: int
    parent: Link
    beacon: Beacon
    time_ns: int
    first_id: int
    count: int
    request_root: RequestRoot
    expired: tuple[Ids, ...] = ()  # requests before this block that the gateway refused, unanswered (O36)

    @property
    def next_id(self) -> int:
        """The id of the first request of the block after this one."""
        return self.first_id + self.count

    def encode(self) -> bytes:
        version, ranges = (b"\x8a\x02", _ranges(self.expired)) if self.expired else (b"\x89\x01", b"")
        return b"".join(
            (
                version,
                _bytes_head(len(self.canister)),
                self.canister,
                _uint(self.height),
                _DIGEST_HEAD,
                self.parent,
                _DIGEST_HEAD,
                self.beacon,
                _uint(self.time_ns),
                _uint(self.first_id),
                _uint(self.count),
                _DIGEST_HEAD,
                self.request_root,
                ranges,
            )
        )

    def link(self) -> Link:
        return Link(tagged_sha256(LINK_TAG, self.encode()))


@dataclass(frozen=True, slots=True)
class Block:
    """A header and the requests it counts. `decode` has checked that the two belong together."""

    header: Header
    requests: tuple[Request, ...]

    def encode(self) -> bytes:
        return b"\x82" + self.header.encode() + encode_requests(self.requests)

    @classmethod
    def decode(cls, raw: bytes) -> Self:
        """Raises `BlockRefused`, nothing else."""
        value = decode_bounded(raw, BLOCK_BYTES_MAX, _BLOCK_ITEMS_MAX, BlockRefused)
        parts = array(value, 2, "block", BlockRefused)
        header = header_from(parts[0])
        requests = requests_from(parts[1])
        check_requests(header, requests, BlockRefused)
        return cls(header, requests)


def has_expired(headers: Sequence[Header], number: int) -> bool:
    """Whether one of `headers` says that this request expired."""
    return any(ids.first <= number < ids.end for header in headers for ids in header.expired)


def genesis(canister: bytes) -> Link:
    """What stands as the parent of the block at height 1 (O5)."""
    return Link(tagged_sha256(GENESIS_TAG, canister))


def request_root(requests: Sequence[Request]) -> RequestRoot:
    return RequestRoot(merkle.root([request.digest() for request in requests]))


def encode_requests(requests: Sequence[Request]) -> bytes:
    return array_head(len(requests)) + b"".join(request.encode() for request in requests)


def check_requests(
    header: Header, requests: Sequence[Request], refusal: type[BlockRefused] = BlockRefused
) -> tuple[RequestDigest, ...]:
    """That `requests` are exactly those `header` speaks of; their digests, in order."""
    if len(requests) != header.count:
        raise refusal("count", expected=f"{header.count} requests", got=len(requests))
    for offset, request in enumerate(requests):
        if request.id != header.first_id + offset:
            raise refusal("id", expected=header.first_id + offset, got=request.id)
    digests = tuple([request.digest() for request in requests])
    if (found := merkle.root(digests)) != header.request_root:
        raise refusal("request-root", expected=header.request_root.hex(), got=found.hex())
    return digests


# --- from decoded values, for the formats that contain headers and requests ---------------------------------


def header_from(value: cbor.Value) -> Header:
    """A header out of a decoded array (O3, O36)."""
    if type(value) is not list or not value:
        raise BlockRefused("header", expected="an array of 9 or 10", got=type(value).__name__)
    version = value[0]
    if type(version) is not int or version not in (VERSION, VERSION_EXPIRING):
        got = version if type(version) is int else "no integer"
        raise BlockRefused("version", expected=f"{VERSION} or {VERSION_EXPIRING}", got=got)
    members = array(value, 9 if version == VERSION else 10, "header")
    _, canister, height, parent, beacon, time_ns, first_id, count, root = members[:9]
    header = Header(
        canister=principal(canister, "canister"),
        height=uint(height, "height"),
        parent=Link(digest(parent, "parent")),
        beacon=Beacon(digest(beacon, "beacon")),
        time_ns=uint(time_ns, "time"),
        first_id=uint(first_id, "first-id"),
        count=uint(count, "count"),
        request_root=RequestRoot(digest(root, "request-root")),
        expired=_expired_from(members[9]) if version == VERSION_EXPIRING else (),
    )
    if header.height == 0:
        raise BlockRefused("height", expected="1 or more", got=0)
    if not 1 <= header.count <= REQUESTS_MAX:
        raise BlockRefused("count", expected=f"1 to {REQUESTS_MAX} requests", got=header.count)
    if header.next_id > UINT_MAX:
        raise BlockRefused("first-id", expected="ids below 2^64", got=header.first_id)
    if header.expired and header.expired[-1].end > header.first_id:
        raise BlockRefused("expired", expected=f"ids below {header.first_id}", got=header.expired[-1].end - 1)
    return header


def _expired_from(value: cbor.Value) -> tuple[Ids, ...]:
    """Ranges that ascend with something between them, so that a set of ids has one spelling."""
    if type(value) is not list or not 1 <= len(value) <= EXPIRED_RANGES_MAX:
        got = f"{len(value)} ranges" if type(value) is list else type(value).__name__
        raise BlockRefused("expired", expected=f"1 to {EXPIRED_RANGES_MAX} ranges", got=got)
    ranges: list[Ids] = []
    for item in value:
        first, count = array(item, 2, "expired")
        ids = Ids(uint(first, "expired"), uint(count, "expired"))
        if not 1 <= ids.count <= EXPIRED_IDS_MAX:
            raise BlockRefused("expired", expected=f"1 to {EXPIRED_IDS_MAX} ids", got=ids.count)
        if ranges and not _stands_after(ids, ranges[-1]):
            raise BlockRefused("expired", expected="ranges that ascend and do not touch", got=f"one from {ids.first}")
        ranges.append(ids)
    return tuple(ranges)


def _stands_after(ids: Ids, before: Ids) -> bool:
    # Only a range that is full may be followed without a gap.
    return ids.first > before.end or (ids.first == before.end and before.count == EXPIRED_IDS_MAX)


def requests_from(value: cbor.Value) -> tuple[Request, ...]:
    """The requests of a block or body out of a decoded array (O1)."""
    if type(value) is not list:
        raise BlockRefused("requests", expected="an array", got=type(value).__name__)
    if not 1 <= len(value) <= REQUESTS_MAX:
        raise BlockRefused("count", expected=f"1 to {REQUESTS_MAX} requests", got=len(value))
    return tuple([_request_from(item) for item in value])


def _request_from(value: cbor.Value) -> Request:
    number, caller, kind, payload = array(value, 4, "request")
    if type(payload) is not bytes:
        raise BlockRefused("payload", expected="a byte string", got=type(payload).__name__)
    if len(payload) > PAYLOAD_BYTES_MAX:
        raise BlockRefused("payload", expected=f"at most {PAYLOAD_BYTES_MAX} bytes", got=len(payload))
    named = _KIND_OF.get(kind) if type(kind) is int else None
    if named is None:
        raise BlockRefused("kind", expected="0 or 1", got=kind if type(kind) is int else type(kind).__name__)
    return Request(uint(number, "id"), principal(caller, "caller"), named, Prompt(payload))


def decode_bounded(raw: bytes, bytes_max: int, items_max: int, refusal: type[BlockRefused]) -> cbor.Value:
    """Deterministic CBOR within bounds; what is wrong with it comes out under the caller's own refusal."""
    try:
        return cbor.decode(raw, cbor.Limits(bytes_max=bytes_max, depth_max=5, items_max=items_max))
    except cbor.CborRefused as refused:
        raise refusal("encoding", expected=refused.expected, got=f"{refused.got} ({refused.code})") from None


def array(value: cbor.Value, length: int, field: str, refusal: type[BlockRefused] = BlockRefused) -> list[cbor.Value]:
    if type(value) is not list or len(value) != length:
        got = f"{len(value)} items" if type(value) is list else type(value).__name__
        raise refusal(field, expected=f"an array of {length}", got=got)
    return value


def uint(value: cbor.Value, field: str, refusal: type[BlockRefused] = BlockRefused) -> int:
    if type(value) is not int or value < 0:
        raise refusal(field, expected="an unsigned integer", got=type(value).__name__)
    return value


def digest(value: cbor.Value, field: str) -> Digest32:
    if type(value) is not bytes or len(value) != DIGEST_BYTES:
        got = f"{len(value)} bytes" if type(value) is bytes else type(value).__name__
        raise BlockRefused(field, expected=f"{DIGEST_BYTES} bytes", got=got)
    return Digest32(value)


def principal(value: cbor.Value, field: str) -> bytes:
    if type(value) is not bytes or not 1 <= len(value) <= PRINCIPAL_BYTES_MAX:
        got = f"{len(value)} bytes" if type(value) is bytes else type(value).__name__
        raise BlockRefused(field, expected=f"1 to {PRINCIPAL_BYTES_MAX} bytes", got=got)
    return value


# --- the few heads these formats need, written without the general encoder ----------------------------------
# A slice of a thousand requests is re-encoded to be hashed; tests hold these equal to `foundation.cbor`.

_DIGEST_HEAD: Final = b"\x58\x20"
_KINDS: Final = {kind: bytes([kind]) for kind in Kind}
_KIND_OF: Final = {kind.value: kind for kind in Kind}
_BLOCK_ITEMS_MAX: Final = 1 + HEADER_ITEMS_MAX + 1 + 5 * REQUESTS_MAX


def _uint(value: int) -> bytes:
    return cbor.head(0x00, value)


def _bytes_head(length: int) -> bytes:
    return cbor.head(0x40, length)


def _ranges(expired: Sequence[Ids]) -> bytes:
    encoded = [b"\x82" + _uint(ids.first) + _uint(ids.count) for ids in expired]
    return array_head(len(encoded)) + b"".join(encoded)


def array_head(length: int) -> bytes:
    return cbor.head(0x80, length)
