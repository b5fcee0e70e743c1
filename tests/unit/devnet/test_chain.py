"""The block maker writes what order.md says a gateway writes."""

from __future__ import annotations

from attestation.consensus.blocks import Block, Kind, genesis
from devnet.chain import Chain
from devnet.subnet import GATEWAY, Subnet


def test_blocks_follow_each_other_and_each_has_a_beacon_of_its_own() -> None:
    # order.md O1, O4, O5, O6, O10
    chain = Chain(Subnet(b"chain"), GATEWAY, seed=b"chain")
    assert chain.head_link == genesis(GATEWAY)
    sealed = [chain.seal([b"a", b"b"], 10), chain.seal([b"c"], 11, kind=Kind.SEALED), chain.seal([b"d"], 11)]
    assert [Block.decode(block.encode()) for block in sealed] == sealed
    assert [block.header.first_id for block in sealed] == [0, 2, 3]
    assert [block.header.parent for block in sealed] == [chain.link(height) for height in (0, 1, 2)]
    assert len({block.header.beacon for block in sealed}) == 3
    assert chain.head_link == chain.link(3)


def test_a_branch_shares_the_past_and_not_the_future() -> None:
    chain = Chain(Subnet(b"chain"), GATEWAY, seed=b"one")
    for _ in range(3):
        chain.seal([b"x"], 10)
    branch = chain.branch(2, seed=b"two")
    branch.seal([b"x"], 10)
    assert branch.link(2) == chain.link(2)
    assert branch.link(3) != chain.link(3)
    assert chain.height == 3
