"""A block maker in plain Python: the gateway's formats without the gateway, for tests, fuzzers and figures.

    chain = Chain(subnet, GATEWAY, seed=b"one")
    chain.seal([b"payload", ...], time_ns)          one more block
    chain.proof(first, last, time_ns)               a slice proof, certified by the subnet at `time_ns`
    chain.body(height)                              that block's body

`branch(height)` gives a chain with the same blocks up to `height` and free to go another way: what a subnet
never does, and a forger tries. What it is not: the gateway. The canister's own code is tested elsewhere,
against the same rules.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from hashlib import sha256
from typing import Final

from attestation.consensus.blocks import UINT_MAX, Beacon, Block, Header, Kind, Link, Request, genesis, request_root
from attestation.consensus.slices import Body, SliceProof
from devnet.misbehaviour import Misbehaviour
from devnet.subnet import NEIGHBOUR, Subnet
from foundation import cbor
from foundation.secrecy import Prompt
from foundation.sized import digest32

CALLER: Final = bytes.fromhex("00000000fff000070101")


class Chain:
    """The blocks of one gateway, from genesis on."""

    def __init__(self, subnet: Subnet, canister: bytes, *, seed: bytes, blocks: Sequence[Block] = ()) -> None:
        self.subnet = subnet
        self.canister = canister
        self.blocks = list(blocks)
        self._seed = seed

    @property
    def height(self) -> int:
        return len(self.blocks)

    @property
    def head_link(self) -> Link:
        return self.link(self.height)

    def link(self, height: int) -> Link:
        return self.blocks[height - 1].header.link() if height else genesis(self.canister)

    def seal(
        self,
        payloads: Sequence[bytes],
        time_ns: int,
        *,
        kind: Kind = Kind.PLAIN,
        misbehaviour: Misbehaviour | None = None,
    ) -> Block:
        """One more block of `payloads`. What misbehaves here gets certified: the gateway is at fault."""
        before = self.blocks[-1].header if self.blocks else None
        first_id = before.next_id if before else 0
        if misbehaviour is Misbehaviour.SKIPPED_IDS:
            first_id += 1
        requests = tuple([Request(first_id + k, CALLER, kind, Prompt(payload)) for k, payload in enumerate(payloads)])
        header = Header(
            canister=self.canister,
            height=self.height + 1,
            parent=self.head_link,
            beacon=Beacon(digest32(sha256(b"beacon" + self._seed + self.height.to_bytes(8, "big")).digest())),
            time_ns=time_ns,
            first_id=first_id,
            count=len(requests),
            request_root=request_root(requests),
        )
        block = Block(_bent(header, before, misbehaviour), requests)
        self.blocks.append(block)
        return block

    def branch(self, height: int, *, seed: bytes) -> Chain:
        return Chain(self.subnet, self.canister, seed=seed, blocks=self.blocks[:height])

    def proof(self, first: int, last: int, time_ns: int, *, misbehaviour: Misbehaviour | None = None) -> bytes:
        """The headers `first` to `last`, certified as they were when `last` was the newest."""
        headers = _carried([block.header for block in self.blocks[first - 1 : last]], misbehaviour)
        certified = self.link(last)
        if misbehaviour is Misbehaviour.FUTURE_BLOCK:
            time_ns = headers[-1].time_ns - 1
        if misbehaviour is Misbehaviour.FORGED_HEAD:
            certified = Link(digest32(sha256(certified).digest()))
        certificate = self.subnet.certify(self.canister, certified, time_ns, misbehaviour=misbehaviour)
        raw = SliceProof(certificate, tuple(headers)).encode()
        return _other_version(raw) if misbehaviour is Misbehaviour.OTHER_VERSION else raw

    def body(self, height: int, *, misbehaviour: Misbehaviour | None = None) -> bytes:
        return Body(height, _tampered(self.blocks[height - 1].requests, misbehaviour)).encode()


def _bent(header: Header, before: Header | None, misbehaviour: Misbehaviour | None) -> Header:
    match misbehaviour:
        case Misbehaviour.WRONG_PARENT | Misbehaviour.OTHER_GENESIS:
            return replace(header, parent=Link(digest32(sha256(header.parent).digest())))
        case Misbehaviour.TIME_RUNS_BACK if before is not None:
            return replace(header, time_ns=before.time_ns - 1)
        case Misbehaviour.OTHER_CANISTER:
            return replace(header, canister=NEIGHBOUR)
        case _:
            return header


def _carried(headers: list[Header], misbehaviour: Misbehaviour | None) -> list[Header]:
    match misbehaviour:
        case Misbehaviour.GAP:
            return [headers[0], *headers[2:]]
        case Misbehaviour.REORDERED:
            return [headers[1], headers[0], *headers[2:]]
        case Misbehaviour.REPEATED:
            return [headers[0], *headers]
        case _:
            return headers


def _tampered(requests: tuple[Request, ...], misbehaviour: Misbehaviour | None) -> tuple[Request, ...]:
    match misbehaviour:
        case Misbehaviour.REQUEST_LEFT_OUT:
            return requests[:-1]
        case Misbehaviour.REQUEST_ADDED:
            return (*requests, replace(requests[-1], id=min(requests[-1].id + 1, UINT_MAX)))
        case Misbehaviour.REQUEST_CHANGED:
            last = requests[-1]
            return (*requests[:-1], replace(last, payload=Prompt(last.payload.reveal() + b"!")))
        case Misbehaviour.REQUESTS_REORDERED:
            return (requests[1], requests[0], *requests[2:])
        case _:
            return requests


def _other_version(raw: bytes) -> bytes:
    """The same proof with every header saying version 3."""
    version, certificate, headers = _items(cbor.decode(raw))
    return cbor.encode([version, certificate, [[3, *_items(header)[1:]] for header in _items(headers)]])


def _items(value: cbor.Value) -> list[cbor.Value]:
    assert isinstance(value, list)  # noqa: S101  # this module encoded it
    return value
