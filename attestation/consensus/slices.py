"""Slices: consecutive blocks under one certificate.

    proof = SliceProof.parse(raw)                              form only
    slice = verify_slice(proof, root_key=..., canister=...)    the subnet certified the last of these links

A slice travels as one proof and then one body per block, so that whoever checks it holds headers and a single
body at a time. The rules are O7 to O9, O14 to O18 and O42 of docs/spec/order.md.

What a canister certifies is 32 bytes: the link itself, or the root of a hash tree that shows the link and commits to
the answers beside it. In the second case the proof carries that tree, the answers pruned.

`verify_slice` is the only maker of `VerifiedSlice`. What it establishes: the canister's state held the last
link at the certified time, hence every header before it, in this order and with nothing between them. What it
does not: that the slice is recent, that it is the newest, that it is the only history the canister ever
certified (a controller can reinstall it), nor anything about a body, which is checked against its header's
request root when it comes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import InitVar, dataclass
from typing import Final, Self

from attestation.consensus.blocks import (
    BODY_BYTES_MAX,
    HEADER_BYTES_MAX,
    HEADER_ITEMS_MAX,
    REQUESTS_MAX,
    Block,
    BlockRefused,
    Header,
    Link,
    Request,
    array,
    array_head,
    decode_bounded,
    encode_requests,
    genesis,
    header_from,
    requests_from,
    uint,
)
from attestation.consensus.certificate import demanded, parse_certificate, verify_certificate
from attestation.consensus.delegation import DelegationCache
from attestation.consensus.hashtree import HashTree, lookup
from attestation.consensus.hashtree import parse as parse_tree
from foundation import cbor
from foundation.limits import HEADERS_MAX
from foundation.refusal import shape, shown

VERSION: Final = 1  # the certified data is the link
VERSION_WITH_TREE: Final = 2  # it is the root of a tree that shows the link
LINK_PATH: Final = (b"link",)
TREE_BYTES_MAX: Final = 1 << 10
CERTIFICATE_BYTES_MAX: Final = 64 << 10
PROOF_BYTES_MAX: Final = 20 + CERTIFICATE_BYTES_MAX + TREE_BYTES_MAX + HEADERS_MAX * HEADER_BYTES_MAX
_PROOF_ITEMS_MAX: Final = 5 + HEADER_ITEMS_MAX * HEADERS_MAX
_BODY_ITEMS_MAX: Final = 3 + 5 * REQUESTS_MAX
_MAKER: Final = object()


class SliceRefused(BlockRefused):
    """A slice whose parts do not belong together, or that its certificate does not speak for."""

    stage = "slice"


@dataclass(frozen=True, slots=True)
class SliceProof:
    """One certificate and the headers it is offered for. Parsed, not believed.

    `tree` are the bytes of the canister's hash tree; None where the certified data is the link itself.
    """

    certificate: bytes
    headers: tuple[Header, ...]
    tree: bytes | None = None

    @classmethod
    def parse(cls, raw: bytes) -> Self:
        """O7, O9. Raises `BlockRefused` (of which `SliceRefused` is one), nothing else."""
        value = decode_bounded(raw, PROOF_BYTES_MAX, _PROOF_ITEMS_MAX, SliceRefused)
        if type(value) is not list or not value:
            raise SliceRefused("proof", expected="an array of 3 or 4", got=type(value).__name__)
        version = value[0]
        if type(version) is not int or version not in (VERSION, VERSION_WITH_TREE):
            raise SliceRefused("version", expected=f"{VERSION} or {VERSION_WITH_TREE}", got=shown(version))
        members = array(value, 3 if version == VERSION else 4, "proof", SliceRefused)
        certificate, headers = members[1], members[-1]
        tree = None if version == VERSION else _bytes(members[2], "tree", TREE_BYTES_MAX)
        if type(headers) is not list or not 1 <= len(headers) <= HEADERS_MAX:
            got = f"{len(headers)} headers" if type(headers) is list else type(headers).__name__
            raise SliceRefused("headers", expected=f"1 to {HEADERS_MAX} headers", got=got)
        found = tuple([header_from(header) for header in headers])
        return cls(_bytes(certificate, "certificate", CERTIFICATE_BYTES_MAX), found, tree)

    def encode(self) -> bytes:
        headers = b"".join([header.encode() for header in self.headers])
        head = b"\x83\x01" if self.tree is None else b"\x84\x02"
        tree = b"" if self.tree is None else cbor.encode(self.tree)
        return head + cbor.encode(self.certificate) + tree + array_head(len(self.headers)) + headers


def _bytes(value: cbor.Value, field: str, bytes_max: int) -> bytes:
    if type(value) is not bytes or len(value) > bytes_max:
        raise SliceRefused(field, expected=f"up to {bytes_max} bytes", got=shape(value))
    return value


@dataclass(frozen=True, slots=True)
class Body:
    """The requests of one block, on their way to be checked against its header."""

    height: int
    requests: tuple[Request, ...]

    @classmethod
    def parse(cls, raw: bytes) -> Self:
        """O8, O9. Raises `BlockRefused`, nothing else."""
        value = decode_bounded(raw, BODY_BYTES_MAX, _BODY_ITEMS_MAX, SliceRefused)
        height, requests = array(value, 2, "body", SliceRefused)
        return cls(uint(height, "height"), requests_from(requests))

    def encode(self) -> bytes:
        return b"\x82" + cbor.encode(self.height) + encode_requests(self.requests)


def carry(
    certificate: bytes, blocks: Sequence[Block], tree: bytes | None = None
) -> tuple[SliceProof, tuple[Body, ...]]:
    """What a host sends on of the blocks it was given and the certificate and tree that came with the last of them."""
    bodies = [Body(block.header.height, block.requests) for block in blocks]
    return SliceProof(certificate, tuple([block.header for block in blocks]), tree), tuple(bodies)


@dataclass(frozen=True, slots=True)
class VerifiedSlice:
    """Consecutive headers a subnet vouches for. Only `verify_slice` makes one."""

    canister: bytes
    certificate: bytes
    tree: bytes | None
    certified_time_ns: int
    headers: tuple[Header, ...]
    links: tuple[Link, ...]  # of `headers`, in the same order
    made_by: InitVar[object]

    def __post_init__(self, made_by: object) -> None:
        if made_by is not _MAKER:
            raise TypeError("a VerifiedSlice comes from verify_slice alone")

    @property
    def first(self) -> Header:
        return self.headers[0]

    @property
    def head(self) -> Header:
        """The header whose link the certificate holds."""
        return self.headers[-1]

    @property
    def head_link(self) -> Link:
        return self.links[-1]


def verify_slice(
    proof: SliceProof, *, root_key: bytes, canister: bytes, cache: DelegationCache | None = None
) -> VerifiedSlice:
    """The slice, if `canister` on a subnet under `root_key` certified it.

    Cheapest first: the chain, then the certificate's tree, then its signature. Raises `ConsensusRefused`:
    a `SliceRefused`, or what the certificate itself was refused for.
    """
    links = _check_chain(proof.headers, canister)
    certificate = parse_certificate(proof.certificate)
    tree = None if proof.tree is None else parse_tree(proof.tree)
    path = (b"canister", canister, b"certified_data")
    # Not yet anybody's word: this spares the pairings where they could not help.
    _check_certified(demanded(lookup(certificate.tree, path), path), tree, links[-1])
    verified = verify_certificate(certificate, root_key=root_key, canister=canister, cache=cache)
    _check_certified(verified.certified_data(), tree, links[-1])
    if proof.headers[-1].time_ns > verified.time_ns:  # O18
        raise SliceRefused(
            "block-time", expected=f"at most the certified {verified.time_ns}", got=proof.headers[-1].time_ns
        )
    return VerifiedSlice(canister, proof.certificate, proof.tree, verified.time_ns, proof.headers, links, _MAKER)


def _check_chain(headers: Sequence[Header], canister: bytes) -> tuple[Link, ...]:
    """That each header follows the one before it; their links."""
    links: list[Link] = []
    before: Header | None = None
    for header in headers:
        if header.canister != canister:  # O15
            raise SliceRefused("canister", expected=canister.hex(), got=header.canister.hex())
        if before is not None:
            _check_follows(header, before, links[-1])
        elif header.height == 1:
            _check_first_ever(header)
        links.append(header.link())
        before = header
    return tuple(links)


def _check_follows(header: Header, before: Header, link: Link) -> None:
    if header.height != before.height + 1:  # O16
        raise SliceRefused("height", expected=before.height + 1, got=header.height)
    if header.parent != link:  # O16
        raise SliceRefused("parent", expected=link.hex(), got=header.parent.hex())
    if header.first_id != before.next_id:  # O17
        raise SliceRefused("first-id", expected=before.next_id, got=header.first_id)
    if header.time_ns < before.time_ns:  # O18
        raise SliceRefused("block-time", expected=f"at least {before.time_ns}", got=header.time_ns)


def _check_first_ever(header: Header) -> None:
    if header.parent != (root := genesis(header.canister)):  # O5
        raise SliceRefused("parent", expected=root.hex(), got=header.parent.hex())
    if header.first_id != 0:  # O17
        raise SliceRefused("first-id", expected=0, got=header.first_id)


def _check_certified(data: bytes, tree: HashTree | None, link: Link) -> None:
    """O15, O42: the certified data is the link, or the root of a tree in which the link is found."""
    if tree is None:
        certified = data
    elif tree.digest == data:
        certified = demanded(lookup(tree, LINK_PATH), LINK_PATH)
    else:
        raise SliceRefused("tree", expected=tree.digest.hex(), got=data[: len(link)].hex())
    if certified != link:
        raise SliceRefused("certified-data", expected=link.hex(), got=certified[: len(link)].hex())
