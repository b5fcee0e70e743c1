"""Upgrades: this module over the first one's state, over its own, and what a tighter bound does at once."""

from __future__ import annotations

import pytest

from anchorhold.host.answer_reports import Report
from anchorhold.host.gateway_client import Answered, GatewayRefused, Position, Waiting
from attestation.consensus.answered import verify_answered
from attestation.consensus.blocks import Block
from attestation.consensus.slices import SliceProof, verify_slice
from attestation.receipts.body import body_digest
from devnet.gateway import Gateway, gateway_wasm
from devnet.lone_gateway import OWNER, REPORTER, SECOND_REPORTER, report_on
from devnet.replica import RejectCode, Rejected, Rejection
from devnet.subnet import GATEWAY
from foundation.candid import NAT64, encode
from tests.gateways import Bench, certified_root, first_module
from tests.unit.devnet.gateway_calls import ALICE, BOB, ask


@pytest.fixture
def old() -> Bench:
    """The first module, with a caller's prompt in every state one can be in."""
    bench = Bench()
    bench.replica.install(first_module())
    gateway = bench.gateway
    gateway.set_reporters(OWNER, [REPORTER, SECOND_REPORTER])
    for text in ("answered", "twice answered", "open"):
        gateway.submit_chat(ALICE, ask(text))
    gateway.seal_block(OWNER)
    gateway.report_answer(REPORTER, Report(1, 0, b"words", b"an old receipt", b"signature"))
    gateway.report_answer(REPORTER, Report(1, 1, b"first", b"one receipt", b"signature"))
    gateway.report_answer(SECOND_REPORTER, Report(1, 1, b"second", b"another receipt", b"signature"))
    gateway.submit_sealed(BOB, b"ciphertext")
    gateway.seal_block(OWNER)
    gateway.submit_chat(ALICE, ask("fixed"))
    call = gateway.begin_seal(OWNER)
    bench.replica.deliver(bench.replica.outstanding[-1], Rejection(RejectCode.SYS_TRANSIENT, "no randomness"))
    with pytest.raises(GatewayRefused, match="beacon"):
        gateway.end_seal(call)
    for number in range(3):
        gateway.submit_chat(ALICE, ask(f"waiting {number}"))
        gateway.submit_sealed(BOB, b"waiting %d" % number)
    return bench


def test_the_first_modules_state_is_kept_whole(old: Bench) -> None:
    gateway, replica = old.gateway, old.replica
    before = [replica.query("get_headers", encode([NAT64, NAT64], [1, 9]), REPORTER), replica.certified_data]
    replica.upgrade(gateway_wasm())
    read = gateway.get_slice(1)
    blocks = [Block.decode(raw) for raw in read.encoded]
    assert len(blocks) == 2
    assert all(block.header.encode() in before[0] for block in blocks)
    assert blocks[1].header.link() == before[1] == read.head_link
    assert read.certificate is not None
    proven = verify_slice(
        SliceProof(read.certificate, tuple([block.header for block in blocks]), read.tree),
        root_key=old.subnet.root_key,
        canister=GATEWAY,
    )
    assert proven.head.height == 2

    taken = gateway.take_answer(ALICE, 0)
    assert isinstance(taken, Answered)
    assert (taken.answer, taken.receipt, taken.digest) == (b"words", b"an old receipt", body_digest(b"an old receipt"))
    assert taken.proof is not None
    record = verify_answered(taken.proof, 0, root_key=old.subnet.root_key, canister=GATEWAY)
    assert record is not None
    assert (record.digests, record.request) == ((taken.digest,), blocks[0].requests[0].digest())
    twice = gateway.take_answer(ALICE, 1)
    assert isinstance(twice, Answered)
    assert twice.dissenters == (SECOND_REPORTER,)
    assert len(gateway.divergences(OWNER)) == 1
    assert gateway.take_answer(ALICE, 2) == Position(1, 2, 2)
    assert gateway.take_answer(BOB, 3) == Position(2, 0, 3)
    assert gateway.take_answer(ALICE, 4) == Waiting()

    # The chain goes on where it was: the fixed prompt first, then turns as they stood.
    assert gateway.report_answer(REPORTER, report_on(gateway, 1, 2, b"at last")) == "recorded"
    gateway.seal_block(OWNER)
    gateway.seal_block(OWNER)
    third, fourth = (Block.decode(raw) for raw in gateway.get_slice(3).encoded)
    assert third.header.parent == blocks[1].header.link()
    assert [request.id for request in third.requests] == [4]
    assert [request.caller for request in fourth.requests] == [ALICE, BOB] * 3
    assert gateway.submit_chat(ALICE, ask()) == 11


def test_it_is_moved_once(old: Bench) -> None:
    gateway, replica = old.gateway, old.replica
    replica.upgrade(gateway_wasm())
    gateway.seal_block(OWNER)
    status, head = gateway.status(), replica.certified_data
    gateway.upgrade()
    gateway.upgrade()
    assert gateway.status() == status
    assert replica.certified_data == head
    assert isinstance(gateway.take_answer(ALICE, 0), Answered)


def test_the_first_module_does_not_take_this_ones_state_back(old: Bench) -> None:
    old.replica.upgrade(gateway_wasm())
    old.gateway.seal_block(OWNER)
    height = old.gateway.status()["head_height"]
    with pytest.raises(Rejected):
        old.replica.upgrade(first_module())
    assert old.gateway.status()["head_height"] == height


def test_an_upgrade_continues_the_chain(bench: Bench) -> None:
    gateway, replica = bench.gateway, bench.replica
    alices = gateway.submit_chat(ALICE, ask("a"))
    gateway.seal_block(OWNER)
    gateway.report_answer(REPORTER, report_on(gateway, 1, 0))
    waiting = gateway.submit_chat(BOB, ask("b"))
    before, head = gateway.status(), replica.certified_data
    gateway.upgrade()
    assert gateway.status() == before
    assert replica.certified_data == head
    assert isinstance(gateway.take_answer(ALICE, alices), Answered)
    gateway.seal_block(REPORTER)
    first, second = (Block.decode(raw) for raw in gateway.get_slice(1).encoded)
    assert second.header.parent == first.header.link()
    assert second.requests[0].id == 1
    assert gateway.take_answer(BOB, waiting) == Position(2, 0, 1)


def test_an_upgrade_sets_certified_data_itself(bench: Bench) -> None:
    sealed = _sealed(bench.gateway)
    bench.replica.canister.certified_data = b""
    bench.gateway.upgrade()
    assert bench.replica.certified_data == certified_root(sealed)


def test_no_upgrade_while_a_draw_is_outstanding(bench: Bench) -> None:
    bench.gateway.submit_sealed(ALICE, b"x")
    call = bench.gateway.begin_seal(OWNER)
    with pytest.raises(Rejected, match="outstanding"):
        bench.gateway.upgrade()
    bench.replica.settle()
    assert bench.gateway.end_seal(call) is not None
    bench.gateway.upgrade()
    assert bench.gateway.status()["head_height"] == 1


def _sealed(gateway: Gateway) -> bytes:
    gateway.submit_sealed(ALICE, b"x")
    sealed = gateway.seal_block(OWNER)
    assert sealed is not None
    return sealed.link
