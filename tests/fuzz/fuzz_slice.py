"""Invariant: any bytes are a block, proof or body that encodes back to them, or refused as `BlockRefused`;
and no links but those the seeds' subnet certified are ever believed."""

from __future__ import annotations

from attestation.consensus.blocks import Block, BlockRefused
from attestation.consensus.refusals import ConsensusRefused
from attestation.consensus.slices import Body, SliceProof, verify_slice
from devnet.chain import Chain
from devnet.subnet import GATEWAY, Subnet

NOW = 1_700_000_000_000_000_000
_SUBNET = Subnet(b"fuzz", delegated=False)
_CHAIN = Chain(_SUBNET, GATEWAY, seed=b"fuzz")
for _k in range(3):
    _CHAIN.seal([b"payload %d" % _j for _j in range(_k + 1)], NOW + _k)

PROOFS = [_CHAIN.proof(first, last, NOW + 9) for first, last in ((1, 1), (1, 3), (3, 3))]
SEEDS: list[bytes] = [*PROOFS, *[_CHAIN.body(h) for h in (1, 2, 3)], *[b.encode() for b in _CHAIN.blocks]]


def one_input(data: bytes) -> None:
    for kind in (Block.decode, Body.parse, SliceProof.parse):
        try:
            value = kind(data)
        except BlockRefused:
            continue
        if value.encode() != data:
            raise AssertionError(f"{kind.__qualname__} accepted a second encoding")
        if isinstance(value, SliceProof):
            _believe(value, data)


def _believe(proof: SliceProof, data: bytes) -> None:
    try:
        proven = verify_slice(proof, root_key=_SUBNET.root_key, canister=GATEWAY)
    except ConsensusRefused:
        return
    # A certificate has encodings that mean the same (map order, the tag); what it certifies has one.
    if data not in PROOFS and proven.links[-1] not in (_CHAIN.link(1), _CHAIN.link(3)):
        raise AssertionError("a forged slice was believed")
