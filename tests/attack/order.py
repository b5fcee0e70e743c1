"""Attacks on order: certificates, slices and bodies that a hostile host brings to a cell's window."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Sequence
from typing import Any

from anchorhold.host.slice_feed import feed
from appliance.ordering import sequencer
from appliance.ordering.sequencer import OrderedRequest, Sequencer
from appliance.serving.window import Answered
from attestation.consensus import certificate, slices
from attestation.consensus.blocks import Header, Request
from attestation.consensus.delegation import Delegation
from attestation.consensus.hashtree import from_cbor
from attestation.consensus.slices import Body
from attestation.receipts.body import Receipt
from attestation.receipts.outcome import Finish
from attestation.receipts.signed_receipt import SignedReceipt
from devnet.misbehaviour import Misbehaviour
from foundation.cbor import decode_foreign
from tests.attack.cells import BELIEVED, NOW, RUN, chain, over_the_window, plain_cell, proposed, receipts, supplied
from tests.attack.outcome import Outcome, Unexpected, broken, held
from tests.attack.registry import Attack, Weaken, add, attack
from tests.attack.room import Room, judged
from tests.attack.weakening import Patch, instead, nothing, without
from vsock_bridge.host import Host
from vsock_bridge.ports import Port

PROVEN = "attestation.consensus.slices:"


# -- certificates and slices: each bent in one way, as the first proof that a cell sees


def links_alone(headers: Sequence[Header], canister: bytes) -> tuple[bytes, ...]:
    """Links of whatever headers came."""
    return tuple(header.link() for header in headers)


def digests_alone(header: Header, requests: Sequence[Request], refusal: object = None) -> tuple[bytes, ...]:
    """Digests of whatever requests came."""
    return tuple(request.digest() for request in requests)


def any_delegation(value: Any) -> Delegation:
    """A delegation, whatever else its certificate holds."""
    inner = certificate.untagged(decode_foreign(value["certificate"], certificate.CERTIFICATE_LIMITS))
    return Delegation(value["subnet_id"], from_cbor(inner["tree"]), inner["signature"], value["certificate"])  # type: ignore[index, call-overload, arg-type]


def any_time(proof: Any, *, root_key: bytes, canister: bytes, cache: Any = None) -> Any:
    """`verify_slice` that holds no block's time against the certificate's."""
    links = slices._check_chain(proof.headers, canister)
    verified = certificate.verify_certificate(
        certificate.parse_certificate(proof.certificate), root_key=root_key, canister=canister, cache=cache
    )
    slices._check_certified(verified.certified_data(), None, links[-1])
    return slices.VerifiedSlice(
        canister, proof.certificate, proof.tree, verified.time_ns, proof.headers, links, slices._MAKER
    )


NO_RANGES_ASKED = without("attestation.consensus.certificate:check_canister")
NO_CHAIN_ASKED = instead(f"{PROVEN}_check_chain", links_alone)
BENT_PROOFS: dict[str, tuple[Misbehaviour, str, str, Weaken]] = {
    "forged-signature": (
        Misbehaviour.WRONG_KEY,
        "signature.invalid",
        "the subnet's signature is checked under the measured root (K4, K5)",
        without("attestation.consensus.bls:verify"),
    ),
    "subnet-outside-its-ranges": (
        Misbehaviour.OUTSIDE_RANGES,
        "ranges.outside",
        "a subnet speaks for the canisters in its delegation alone (K7)",
        NO_RANGES_ASKED,
    ),
    "empty-ranges": (
        Misbehaviour.EMPTY_RANGES,
        "ranges.outside",
        "an empty list of ranges authorises nothing (K7)",
        NO_RANGES_ASKED,
    ),
    "pruned-ranges": (
        Misbehaviour.NO_RANGES,
        "ranges.missing",
        "ranges that are not shown authorise nothing (K7)",
        NO_RANGES_ASKED,
    ),
    "delegation-in-a-delegation": (
        Misbehaviour.NESTED_DELEGATION,
        "delegation.nested",
        "only the root delegates (K5)",
        instead("attestation.consensus.certificate:_delegation", any_delegation),
    ),
    "header-left-out": (
        Misbehaviour.GAP,
        "slice.height",
        "heights follow each other without a gap (O16)",
        NO_CHAIN_ASKED,
    ),
    "headers-exchanged": (
        Misbehaviour.REORDERED,
        "slice.height",
        "each header names the one before it (O16)",
        NO_CHAIN_ASKED,
    ),
    "head-never-certified": (
        Misbehaviour.FORGED_HEAD,
        "slice.certified-data",
        "the last link is the canister's certified data (O15)",
        without(f"{PROVEN}_check_certified"),
    ),
    "block-from-the-future": (
        Misbehaviour.FUTURE_BLOCK,
        "slice.block-time",
        "no block is younger than its certificate (O18)",
        instead("appliance.ordering.sequencer:verify_slice", any_time),
    ),
}


def bent_proof(lie: Misbehaviour, code: str) -> Any:
    def run(room: Room) -> Outcome:
        async def work(host: Host) -> Outcome:
            return judged(await proposed(host, chain().proof(1, 3, NOW + 9, misbehaviour=lie)), code, taken=BELIEVED)

        return over_the_window(room, work)

    return run


for name, (lie, code, defence, weaken) in BENT_PROOFS.items():
    add(Attack(f"order.{name}", f"a proof: {lie.value}", defence, bent_proof(lie, code), weaken))


@attack(
    "gateway-that-jumps",
    tries="a certified block whose parent is not the link before it",
    defence="each header names the link before it, whoever certified it (O16)",
    without=NO_CHAIN_ASKED,
)
def gateway_that_jumps(room: Room) -> Outcome:
    async def work(host: Host) -> Outcome:
        of = chain(2)
        of.seal([b"third"], NOW + 3, misbehaviour=Misbehaviour.WRONG_PARENT)
        return judged(await proposed(host, of.proof(1, 3, NOW + 9)), "slice.parent", taken=BELIEVED)

    return over_the_window(room, work)


# -- histories


@attack(
    "forked-history",
    tries="two certified histories that part at block 2",
    defence="wherever a slice and the cell's own chain both have a link, it is the same (O23, O25)",
    without=without("appliance.ordering.sequencer:Sequencer._check_same_history"),
)
def forked_history(room: Room) -> Outcome:
    async def work(host: Host) -> Outcome:
        ours = chain(2)
        theirs = ours.branch(1, seed=b"another")
        theirs.seal([b"other"], NOW + 2)
        theirs.seal([b"and more"], NOW + 3)
        await proposed(host, ours.proof(1, 2, NOW + 8))
        return judged(await proposed(host, theirs.proof(1, 3, NOW + 9)), "order.fork", taken=BELIEVED)

    return over_the_window(room, work)


@attack(
    "chain-that-shrank",
    tries="a newer certificate over fewer blocks: the gateway's state rolled back",
    defence="a later certificate cannot show less of the chain (O26)",
    without=without("appliance.ordering.sequencer:Sequencer._check_not_rewound"),
)
def chain_that_shrank(room: Room) -> Outcome:
    async def work(host: Host) -> Outcome:
        await proposed(host, chain().proof(1, 3, NOW + 8))
        return judged(await proposed(host, chain().proof(1, 2, NOW + 9)), "order.rewind", taken=BELIEVED)

    return over_the_window(room, work)


@attack(
    "blocks-skipped",
    tries="a slice that begins two blocks behind where the cell stands",
    defence="a cell goes on from where it stands, without a gap (O24)",
    without=lambda patch: patch.put("appliance.ordering.sequencer:Sequencer._placed", placed_anywhere),
)
def blocks_skipped(room: Room) -> Outcome:
    async def work(host: Host) -> Outcome:
        of = chain(4)
        await proposed(host, of.proof(1, 1, NOW + 8))
        return judged(await proposed(host, of.proof(4, 4, NOW + 9)), "order.gap", taken=BELIEVED)

    return over_the_window(room, work)


def placed_anywhere(self: Sequencer, proven: Any) -> Any:
    """As if every proof were the first."""
    first = proven.first
    return sequencer.Position(first.height - 1, first.parent, first.first_id), sequencer.Step.JOINED


# -- bodies


BENT_BODIES = {
    "request-left-out": (Misbehaviour.REQUEST_LEFT_OUT, "slice.count"),
    "request-changed": (Misbehaviour.REQUEST_CHANGED, "slice.request-root"),
    "requests-exchanged": (Misbehaviour.REQUESTS_REORDERED, "slice.id"),
}


def bent_body(lie: Misbehaviour, code: str) -> Any:
    def run(room: Room) -> Outcome:
        async def work(host: Host) -> Outcome:
            of = chain()
            await proposed(host, of.proof(1, 3, NOW + 9))
            said, _ = await supplied(host, of.body(1, misbehaviour=lie))
            return judged(said, code, taken=RUN)

        return over_the_window(room, work)

    return run


for name, (lie, code) in BENT_BODIES.items():
    add(
        Attack(
            f"order.{name}",
            f"{lie.value}, under a proven header",
            "a body is its header's, by count, ids and root (O29)",
            bent_body(lie, code),
            instead("appliance.ordering.sequencer:check_requests", digests_alone),
        )
    )


def supply_of_any_height(self: Sequencer, raw: bytes) -> tuple[OrderedRequest, ...]:
    """The block that came, whichever of the planned ones it is."""
    body = Body.parse(raw)
    while self._plan[0].header.height != body.height:
        self._plan.popleft()
    planned = self._plan.popleft()
    self._position = sequencer._behind(planned.header, planned.link)
    return sequencer._released(planned, body, self._certified_time_ns, frozenset())


@attack(
    "body-out-of-turn",
    tries="the body of block 3 where block 1 is next",
    defence="the next body is that of the next height (O29)",
    without=instead("appliance.ordering.sequencer:Sequencer.supply", supply_of_any_height),
)
def body_out_of_turn(room: Room) -> Outcome:
    async def work(host: Host) -> Outcome:
        await proposed(host, chain().proof(1, 3, NOW + 9))
        said, _ = await supplied(host, chain().body(3))
        return judged(said, "order.gap", taken=RUN)

    return over_the_window(room, work)


def supply_without_memory(self: Sequencer, raw: bytes) -> tuple[OrderedRequest, ...]:
    """A body that was run is run again."""
    kept = self.__dict__.setdefault("kept", {})
    body = Body.parse(raw)
    planned = kept.get(body.height) or self._plan.popleft()
    kept[body.height] = planned
    self._position = sequencer._behind(planned.header, planned.link)
    return sequencer._released(planned, body, self._certified_time_ns, frozenset())


def run_twice_weakened(patch: Patch) -> None:
    patch.put("appliance.ordering.sequencer:Sequencer.supply", supply_without_memory)
    patch.put("appliance.serving.receipts:ReceiptBook._check_next", nothing)


@attack(
    "block-run-twice",
    tries="the same body twice, for a second receipt of one position",
    defence="a block is released once in a boot, and a receipt follows the one before it (O29, T7)",
    without=run_twice_weakened,
)
def block_run_twice(room: Room) -> Outcome:
    async def work(host: Host) -> Outcome:
        await proposed(host, chain().proof(1, 3, NOW + 9))
        _, first = await supplied(host, chain().body(1))
        _, again = await supplied(host, chain().body(1))
        if len(receipts(first)) != 2:
            return broken(f"the first run has {len(receipts(first))} receipts of 2")
        return held("the second time nothing is run") if not receipts(again) else broken("two receipts of one position")

    return over_the_window(room, work)


def another_seed(cls: type, request: OrderedRequest, chat: object = None) -> Any:
    """An engine's own randomness in the beacon's place."""
    from appliance.serving.answer_pipeline import Seed
    from attestation.receipts.seeds import SeedPolicy

    return Seed(SeedPolicy.BEACON, secrets.token_bytes(32))


@attack(
    "cell-rolled-back",
    tries="a cell killed and started again, and fed the same blocks, for another answer",
    defence="all randomness is the beacon's and the request's, so a position has one answer (O22, O30)",
    without=instead("appliance.serving.answer_pipeline:Seed.of", classmethod(another_seed)),
)
def cell_rolled_back(room: Room) -> Outcome:
    async def bodies(cell: Any) -> list[bytes]:
        async with Host(cell.address, Port.STREAM) as host:
            said = feed(host, chain().proof(1, 3, NOW + 9), {height: chain().body(height) for height in (1, 2, 3)})
            return [SignedReceipt.parse(say.receipt).body async for say in said if isinstance(say, Answered)]

    lives = []
    for _ in range(2):
        with plain_cell(room) as cell:
            lives.append(asyncio.run(bodies(cell)))
    if [type(Receipt.parse(body).finish) for body in lives[0]] != [Finish] * 6:
        raise Unexpected("expected six answers")
    return held("the same six receipts, byte for byte") if lives[0] == lives[1] else broken("other receipts")
