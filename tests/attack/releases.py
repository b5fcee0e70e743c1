"""Attacks with two releases: a block that both would answer, at the cell, the broker, the client and the auditor."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Final

from anchorhold.client import Expected, Taken
from anchorhold.client.answer import open_plain
from attestation.auditor.audit import audit
from attestation.auditor.audit_bundle import audit_nonce
from attestation.broker.administration import add_release
from attestation.broker.session import Release
from attestation.decision_log.words import ReleaseState
from attestation.rcar.grant import GrantHeights, checked_context
from attestation.receipts.signed_receipt import SignedReceipt
from devnet.broker import measurement_of
from devnet.demo.key_owner import key_owner
from devnet.model import TinyModel
from devnet.subnet import GATEWAY
from measurements.release.heights import Heights
from tests.attack.brokers import https_broker
from tests.attack.cells import BELIEVED, NOW, RUN, chain, proposed, released_cell, supplied
from tests.attack.outcome import Outcome, Unexpected, broken, held
from tests.attack.registry import attack
from tests.attack.room import Room, judged, refused_as
from tests.attack.weakening import instead, together, without
from tests.little_audit import broker, config, evidence_of, granted, run_cell, terms, world
from tests.little_broker import MODEL_KEY, MODEL_ROOT, NOW_NS, LittleCell, bent
from tests.little_receipts import raw, receipt_key
from tests.little_tee import CONFIG, snp_tee
from vsock_bridge.host import Host
from vsock_bridge.ports import Port

PLAIN: Final = 'engine = "scripted-1"\nplaintext = true'
ANY_BLOCK: Final = without("appliance.ordering.sequencer:Sequencer.grant")
EVERY_RELEASE: Final = instead("measurements.release.heights:Heights.__contains__", lambda self, height: True)


def fed(room: Room, heights: Heights, height: int, taken: str) -> Outcome:
    """A host that brings all blocks up to this one, to a cell whose release is for these."""

    async def work(host: Host) -> str:
        first = await proposed(host, chain().proof(1, 3, NOW + 9))
        if first != BELIEVED or height == 1:
            return first
        for each in range(1, height + 1):
            said, _ = await supplied(host, chain().body(each))
        return said

    async def hosting() -> str:
        async with Host(cell.address, Port.STREAM) as host:
            return await work(host)

    with key_owner(room.folder, TinyModel().write) as owner, released_cell(room, owner, PLAIN, heights) as cell:
        return judged(asyncio.run(hosting()), "order.heights", taken=taken)


@attack(
    "before-its-first-block",
    tries="a cell of a newer release, shown blocks that are the older one's",
    defence="a release is for heights, and its cell joins no earlier than its first (O35)",
    without=ANY_BLOCK,
)
def before_its_first_block(room: Room) -> Outcome:
    return fed(room, Heights(3, None), 1, BELIEVED)


@attack(
    "behind-its-last-block",
    tries="a cell of an older release, kept running over blocks that are its successor's",
    defence="a cell runs the blocks that it was granted and no other (R34, O34)",
    without=ANY_BLOCK,
)
def behind_its_last_block(room: Room) -> Outcome:
    return fed(room, Heights(1, 2), 3, RUN)


@attack(
    "block-granted-twice",
    tries="two approved releases, each of which asks for its keys for the same blocks",
    defence="a broker grants no block to two releases (R35)",
    without=together(
        instead("attestation.broker.session:lease_of", lambda *_: GrantHeights(1, 5_000, 10_000)),
        without("attestation.broker.store:Change.set_granted"),
    ),
)
def block_granted_twice(room: Room) -> Outcome:
    second = bent(snp_tee(), measurement=b"\x5e" * 48)
    found = []
    with https_broker(room) as (little, remote):
        add_release(
            little.store, Release("little-2", measurement_of(second), MODEL_ROOT, CONFIG, ReleaseState.APPROVED), NOW_NS
        )
        for tee in (snp_tee(), second):
            cell = LittleCell(tee)
            cell.ask(remote)  # type: ignore[arg-type]
            cell.attest(remote)  # type: ignore[arg-type]
            context = checked_context(cell.fetch(remote, MODEL_KEY), little.public)  # type: ignore[arg-type]
            if context.heights is None:
                raise Unexpected("a grant without heights")
            found.append(Heights(context.heights.first, context.heights.last))
    words = f"{found[0]}, and {found[1]}"
    return broken(words) if found[0].overlaps(found[1]) else held(words)


@attack(
    "answer-of-the-other-release",
    tries="a true receipt of a release, at a block that is another's",
    defence="a client knows for which blocks a release is, and believes it at no other (A24)",
    without=EVERY_RELEASE,
)
def answer_of_the_other_release(room: Room) -> Outcome:
    signed, request = SignedReceipt.parse(world().cells[0].signed[0]), world().chain.blocks[0].requests[0]
    said = world().answers(1, 1)[1, 0].said
    taken = Taken(1, 0, request.id, said or b"", signed.body, signed.signature)
    return refused_as(
        "receipt.heights",
        lambda: (
            open_plain(
                taken,
                raw(receipt_key("cell a")),
                Expected(heights=Heights(2, None)),
                gateway=GATEWAY,
                caller=request.caller,
                payload=request.payload.reveal(),
            ).receipt.by.release
        ),
    )


@attack(
    "audited-at-anothers-block",
    tries="a bundle of blocks that the broker granted to nobody of this release",
    defence="every block of a bundle is among those that its cells were granted (U19)",
    without=EVERY_RELEASE,
)
def audited_at_anothers_block(room: Room) -> Outcome:
    little = broker(heights=Heights(2, None))
    measured = config(little.keys.public)
    made = replace(
        world(),
        config=measured,
        cells=(run_cell("cell a", measured, world().chain),),
        entries={"cell a": granted("cell a", measured, little)},
        evidence={"cell a": evidence_of("cell a", measured, audit_nonce(world().chain.link(1)))},
    )
    report = audit(made.bundle().encode(), terms())
    code = "well" if report.ok else report.failed[0].code
    return judged(code, "release.granted-heights", taken="well")
