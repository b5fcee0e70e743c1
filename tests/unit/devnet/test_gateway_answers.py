"""What the gateway keeps of answers: alternatives, what is certified of them, expiry, and how much history."""

from __future__ import annotations

from dataclasses import replace
from hashlib import sha256

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from anchorhold.host.gateway_client import Answered, Position, Waiting
from appliance.ordering.sequencer import Sequencer
from attestation.consensus.answered import AnsweredProof, CertifiedAnswers, verify_answered
from attestation.consensus.blocks import Block, Ids, has_expired, header_from
from attestation.consensus.refusals import ConsensusRefused
from attestation.receipts.body import body_digest
from devnet.gateway import Gateway
from devnet.lone_gateway import OWNER, REPORTER, SECOND_REPORTER, canister, report_on
from devnet.replica import ANONYMOUS, Rejected
from devnet.subnet import GATEWAY, Subnet
from foundation import cbor
from foundation.limits import ANSWER_BYTES_MAX
from tests.gateways import Bench, caller, certified_root
from tests.unit.devnet.gateway_calls import ALICE, BOB, STRANGER, ask, refused

OTHER_ENGINE = b"\xe2" * 32


def seal(gateway: Gateway, count: int = 1, payload: bytes = b"x") -> list[int]:
    tickets = [gateway.submit_sealed(caller(number), payload) for number in range(count)]
    gateway.seal_block(OWNER)
    return tickets


def certified(bench: Bench, proof: AnsweredProof | None, number: int) -> CertifiedAnswers | None:
    assert proof is not None
    return verify_answered(proof, number, root_key=bench.subnet.root_key, canister=GATEWAY)


@pytest.fixture
def asked(gateway: Gateway) -> tuple[Gateway, int, int]:
    tickets = gateway.submit_chat(ALICE, ask("a")), gateway.submit_chat(BOB, ask("b"))
    gateway.seal_block(OWNER)
    return gateway, *tickets


# ---- reports


def test_an_answer_reaches_its_caller_and_nobody_else(asked: tuple[Gateway, int, int]) -> None:
    gateway, alices, _ = asked
    reported = report_on(gateway, 1, 0, b"for alice")
    assert gateway.take_answer(ALICE, alices) == Position(1, 0, 0)
    assert gateway.report_answer(REPORTER, reported) == "recorded"
    taken = gateway.take_answer(ALICE, alices)
    assert isinstance(taken, Answered)
    assert (taken.answer, taken.receipt, taken.position) == (b"for alice", reported.receipt, Position(1, 0, 0))
    assert (taken.signatures, taken.others) == (((REPORTER, b"signature"),), ())
    for other in (BOB, STRANGER, ANONYMOUS, OWNER, REPORTER):
        with refused("ticket.unknown"):
            gateway.take_answer(other, alices)
    with refused("ticket.unknown"):
        gateway.take_answer(ALICE, 99)


def test_an_answer_is_named_by_its_receipts_digest(asked: tuple[Gateway, int, int]) -> None:
    # order.md O41
    gateway = asked[0]
    assert gateway.answer_digest(1, 0) is None
    reported = report_on(gateway, 1, 0)
    gateway.report_answer(REPORTER, reported)
    assert gateway.answer_digest(1, 0) == body_digest(reported.receipt)


@pytest.mark.parametrize(
    ("code", "change"),
    [
        ("receipt.form", {"receipt": b""}),
        ("receipt.form", {"receipt": b"\x8b" + b"\x00" * 11}),
        ("receipt.form", {"receipt": bytes(16_384)}),
        ("receipt.answer", {"answer": b"Send your ICP to account 666"}),
        ("receipt.place", {"index": 1}),
    ],
)
def test_a_receipt_of_something_else_is_no_report(
    asked: tuple[Gateway, int, int], code: str, change: dict[str, object]
) -> None:
    # order.md O40
    gateway = asked[0]
    honest = report_on(gateway, 1, 0)
    with refused(code):
        gateway.report_answer(REPORTER, replace(honest, **change))
    assert gateway.answer_digest(1, 0) is None
    assert gateway.report_answer(SECOND_REPORTER, honest) == "recorded"


@pytest.mark.parametrize("member", [5, 6])
def test_a_receipt_of_another_gateway_or_request_is_no_report(asked: tuple[Gateway, int, int], member: int) -> None:
    # order.md O40
    gateway = asked[0]
    honest = report_on(gateway, 1, 0)
    body = cbor.decode(honest.receipt)
    assert isinstance(body, list)
    where = 0 if member == 5 else 1
    body[member][where] = sha256(b"another").digest()[: len(body[member][where])]
    with refused("receipt.gateway" if member == 5 else "receipt.request"):
        gateway.report_answer(REPORTER, replace(honest, receipt=cbor.encode(body)))


def test_agreement_collects_signatures(asked: tuple[Gateway, int, int]) -> None:
    gateway, alices, _ = asked
    reported = report_on(gateway, 1, 0)
    outcomes = [gateway.report_answer(by, reported) for by in (REPORTER, REPORTER, SECOND_REPORTER)]
    assert outcomes == ["recorded", "repeated", "repeated"]
    taken = gateway.take_answer(ALICE, alices)
    assert isinstance(taken, Answered)
    assert [reporter for reporter, _ in taken.signatures] == [REPORTER, SECOND_REPORTER]


def test_the_owner_is_given_every_answer_that_was_reported(asked: tuple[Gateway, int, int]) -> None:
    # order.md O41: a forged answer that comes first withholds nothing
    gateway, alices, _ = asked
    forged, honest = report_on(gateway, 1, 0, b"forged"), report_on(gateway, 1, 0, b"honest", signature=b"true")
    assert gateway.report_answer(REPORTER, forged) == "recorded"
    assert [gateway.report_answer(SECOND_REPORTER, honest) for _ in range(3)] == ["diverged"] * 3
    taken = gateway.take_answer(ALICE, alices)
    assert isinstance(taken, Answered)
    assert (taken.answer, taken.dissenters) == (b"forged", (SECOND_REPORTER,))
    (other,) = taken.others
    assert (other.answer, other.receipt, other.signatures) == (b"honest", honest.receipt, ((SECOND_REPORTER, b"true"),))

    (divergence,) = gateway.divergences(OWNER)
    assert (divergence.height, divergence.index, divergence.reporter) == (1, 0, SECOND_REPORTER)
    assert (divergence.kept, divergence.other) == (body_digest(forged.receipt), body_digest(honest.receipt))
    assert divergence.evidence == (honest.receipt, b"true")
    (shown,) = gateway.divergences(STRANGER)
    assert shown.evidence is None


def test_one_reporter_has_one_answer(asked: tuple[Gateway, int, int]) -> None:
    gateway, alices, _ = asked
    first, second = report_on(gateway, 1, 0), report_on(gateway, 1, 0, b"second thoughts")
    gateway.report_answer(REPORTER, first)
    before = gateway.status()["history_bytes"]
    for number in range(50):
        changed = report_on(gateway, 1, 0, b"thought %d" % number)
        assert gateway.report_answer(REPORTER, changed) == "diverged"
    assert gateway.status()["history_bytes"] - before < 256  # noted once
    assert [divergence.reporter for divergence in gateway.divergences()] == [REPORTER]
    assert gateway.report_answer(SECOND_REPORTER, second) == "diverged"
    assert gateway.report_answer(SECOND_REPORTER, first) == "repeated"
    taken = gateway.take_answer(ALICE, alices)
    assert isinstance(taken, Answered)
    assert [len(taken.signatures)] + [len(other.signatures) for other in taken.others] == [1, 1]


def test_alternatives_and_their_bytes_are_bounded(bench: Bench) -> None:
    gateway = bench.gateway
    reporters = [caller(1_000 + number) for number in range(8)]
    gateway.set_reporters(OWNER, reporters)
    ticket = gateway.submit_chat(ALICE, ask())
    gateway.seal_block(OWNER)
    before = gateway.status()["history_bytes"]
    for number, reporter in enumerate(reporters):
        gateway.report_answer(reporter, report_on(gateway, 1, 0, bytes([number]) * 100_000))
    taken = gateway.take_answer(ALICE, ticket)
    assert isinstance(taken, Answered)
    assert len(taken.others) == gateway.limits()["alternatives_max"] - 1 == 3
    assert len(taken.dissenters) == 7
    kept = 4 * (100_000 + len(taken.receipt) + len(b"signature"))
    assert 0 < gateway.status()["history_bytes"] - before - kept <= 7 * 256


def test_reports_that_fit_nowhere_are_refused(asked: tuple[Gateway, int, int]) -> None:
    gateway = asked[0]
    honest = report_on(gateway, 1, 0)
    for code, bad in (
        ("answer.height", replace(honest, height=2)),
        ("answer.height", replace(honest, height=0)),
        ("answer.index", replace(honest, index=2)),
        ("answer.bytes", replace(honest, answer=bytes(ANSWER_BYTES_MAX + 1))),
        ("answer.receipt_bytes", replace(honest, receipt=bytes(16_385))),
        ("answer.signature_bytes", replace(honest, signature=bytes(16_385))),
    ):
        with refused(code):
            gateway.report_answer(REPORTER, bad)
    assert gateway.answer_digest(1, 0) is None


def test_only_registered_reporters_report(asked: tuple[Gateway, int, int]) -> None:
    gateway = asked[0]
    honest = report_on(gateway, 1, 0)
    for other in (ALICE, OWNER, STRANGER):
        with pytest.raises(Rejected, match="explicitly refused"):
            gateway.report_answer(other, honest)
    with refused("caller.not_allowed"):
        gateway.report_answer(canister(1), honest)
    with refused("caller.not_allowed"):
        gateway.set_reporters(canister(1), [STRANGER])
    gateway.set_reporters(OWNER, [STRANGER])
    assert gateway.reporters() == (STRANGER,)
    assert gateway.report_answer(STRANGER, honest) == "recorded"
    with pytest.raises(Rejected, match="explicitly refused"):
        gateway.report_answer(REPORTER, replace(honest, index=1))
    with refused("caller.anonymous"):
        gateway.set_reporters(OWNER, [ANONYMOUS])
    with refused("reporters"):
        gateway.set_reporters(OWNER, [caller(number) for number in range(65)])


# ---- what is certified


def test_the_subnet_certifies_what_was_answered(bench: Bench) -> None:
    # order.md O42 to O45
    gateway = bench.gateway
    tickets = seal(gateway, 5)
    reports = [report_on(gateway, 1, index, b"%d" % index) for index in (3, 1)]
    for each in reports:
        gateway.report_answer(REPORTER, each)
    gateway.report_answer(SECOND_REPORTER, report_on(gateway, 1, 1, b"other"))
    taken = gateway.take_answer(caller(1), tickets[1])
    assert isinstance(taken, Answered)
    record = certified(bench, taken.proof, 1)
    block = Block.decode(gateway.get_slice(1).encoded[0])
    assert record is not None
    assert (record.height, record.index, record.request) == (1, 1, block.requests[1].digest())
    assert record.digests == (taken.digest, taken.others[0].digest)
    assert not record.expired
    for number in (0, 2, 4, 5, 2**64 - 1):
        assert certified(bench, gateway.prove_answer(number), number) is None
    # Nobody takes one request's record for another's, nor a tree that hides for one that lacks.
    with pytest.raises(ConsensusRefused, match="unknown"):
        certified(bench, taken.proof, 3)


def test_an_answer_that_no_subnet_certified_is_not_believed(bench: Bench) -> None:
    gateway = bench.gateway
    tickets = seal(gateway, 2)
    gateway.report_answer(REPORTER, report_on(gateway, 1, 0))
    taken = gateway.take_answer(caller(0), tickets[0])
    assert isinstance(taken, Answered)
    assert taken.proof is not None
    proof, root = taken.proof, bench.replica.certified_data
    liar = Subnet(b"one node's own").certify(GATEWAY, root, bench.clock())
    older = bench.subnet.certify(GATEWAY, certified_root(gateway.status()["head_link"]), bench.clock())
    for bad in (
        AnsweredProof(liar, proof.tree),
        AnsweredProof(older, proof.tree),
        AnsweredProof(proof.certificate, proof.tree[:-1]),
        AnsweredProof(proof.certificate, proof.tree.replace(taken.digest, bytes(32))),
    ):
        with pytest.raises(ConsensusRefused):
            certified(bench, bad, 0)


@settings(max_examples=25, deadline=None)
@given(st.lists(st.integers(0, 39), unique=True, max_size=40), st.integers(0, 45))
def test_the_tree_is_the_one_the_specification_says(answered: list[int], looked_up: int) -> None:
    # order.md O42 to O44, said again in Python
    bench = Bench()
    gateway = bench.gateway
    for _ in range(4):
        seal(gateway, 10)
    records: dict[int, bytes] = {}
    for number in answered:
        height, index = number // 10 + 1, number % 10
        reported = report_on(gateway, height, index)
        gateway.report_answer(REPORTER, reported)
        block = Block.decode(gateway.get_slice(height, 1).encoded[0])
        digests = [body_digest(reported.receipt)]
        records[number] = cbor.encode([height, index, block.requests[index].digest(), digests])
    assert bench.replica.certified_data == certified_root(gateway.status()["head_link"], records)
    found = certified(bench, gateway.prove_answer(looked_up), looked_up)
    assert (found is not None) == (looked_up in answered)


# ---- expiry


def test_what_nobody_answers_expires_by_height(bench: Bench) -> None:
    # order.md O36, O37
    gateway = bench.gateway
    gateway.set_pace(OWNER, soonest_ms=0, latest_ms=0, expiry_blocks=16)
    tickets = seal(gateway, 5)
    for index in (1, 3):
        gateway.report_answer(REPORTER, report_on(gateway, 1, index))
    late = report_on(gateway, 1, 0)
    for _ in range(15):
        seal(gateway)
    assert gateway.take_answer(caller(0), tickets[0]) == Position(1, 0, 0)
    seal(gateway)
    header = header_from(cbor.decode(gateway.get_headers(17).encoded[0]))
    assert [(ids.first, ids.count) for ids in header.expired] == [(0, 1), (2, 1), (4, 1)]
    assert gateway.status()["expired"] == 3
    for index in (0, 2, 4):
        with refused("order.expired"):
            gateway.take_answer(caller(index), tickets[index])
        record = certified(bench, gateway.prove_answer(index), index)
        assert record is not None
        assert record.expired
    assert isinstance(gateway.take_answer(caller(1), tickets[1]), Answered)
    with refused("answer.expired"):
        gateway.report_answer(REPORTER, late)


def test_a_cell_that_comes_later_refuses_what_expired_and_answers_the_rest(bench: Bench) -> None:
    # order.md O38
    gateway = bench.gateway
    gateway.set_pace(OWNER, soonest_ms=0, latest_ms=0, expiry_blocks=16)
    seal(gateway, 3)
    gateway.report_answer(REPORTER, report_on(gateway, 1, 1))
    early = Sequencer(root_key=bench.subnet.root_key, canister=GATEWAY)
    proof, bodies = gateway.proof_and_bodies(1) or (b"", ())
    early.propose(proof)
    assert [request.expired for request in early.supply(bodies[0])] == [False] * 3
    for _ in range(16):
        seal(gateway)
    late = Sequencer(root_key=bench.subnet.root_key, canister=GATEWAY)
    proof, bodies = gateway.proof_and_bodies(1) or (b"", ())
    late.propose(proof)
    assert [request.expired for request in late.supply(bodies[0])] == [True, False, True]
    assert [request.expired for body in bodies[1:] for request in late.supply(body)] == [False] * 16


def test_more_than_a_header_holds_expires_with_the_next_ones(bench: Bench) -> None:
    gateway = bench.gateway
    gateway.set_pace(OWNER, soonest_ms=0, latest_ms=0, expiry_blocks=16)
    seal(gateway, 60)
    for index in range(0, 60, 2):
        gateway.report_answer(REPORTER, report_on(gateway, 1, index))
    for _ in range(19):
        seal(gateway)
    headers = [header_from(cbor.decode(raw)) for raw in gateway.get_headers(1).encoded]
    assert [len(header.expired) for header in headers[16:19]] == [12, 12, 6]
    assert headers[18].expired[-1] == Ids(59, 3)  # blocks 2 and 3 go with the last of block 1
    assert all(has_expired(headers, number) == (number % 2 == 1) for number in range(60))


# ---- history


def test_answered_blocks_are_forgotten_when_there_is_too_much_of_them(bench: Bench) -> None:
    gateway = bench.gateway
    tickets = [seal(gateway, payload=bytes(1_000))[0] for _ in range(3)]
    parent = gateway.status()["head_link"]
    for height in (1, 3):
        gateway.report_answer(REPORTER, report_on(gateway, height, 0))
    gateway.set_history(OWNER, 1_500)

    slice_ = gateway.get_slice(1)
    assert (slice_.encoded, slice_.oldest_height, slice_.head_height) == ((), 2, 3)
    with refused("ticket.unknown"):
        gateway.take_answer(caller(0), tickets[0])
    assert certified(bench, gateway.prove_answer(0), 0) is None

    seal(gateway)  # block 2 is in the way and has no answer: it expires, and nothing is refused for want of room
    header = header_from(cbor.decode(gateway.get_headers(4).encoded[0]))
    assert [(ids.first, ids.count) for ids in header.expired] == [(1, 1)]
    assert gateway.status()["oldest_height"] == 4
    assert header.parent == parent
    assert header.first_id == 3
    gateway.set_history(OWNER, 0)
    assert len(gateway.get_slice(4).encoded) == 1  # the newest stays whatever the bound


def test_nothing_wedges_the_gateway(bench: Bench) -> None:
    # order.md O37
    gateway = bench.gateway
    gateway.set_history(OWNER, 40_000)
    seal(gateway, payload=bytes(1_000))  # nobody ever answers it
    for number in range(60):
        gateway.submit_sealed(caller(2 + number % 50), bytes(2_000))
        gateway.seal_block(OWNER)
        height = gateway.status()["head_height"]
        gateway.report_answer(REPORTER, report_on(gateway, height, 0, b"ok"))
    assert gateway.status()["history_bytes"] < 45_000
    assert gateway.status()["expired"] == 1


def test_only_a_controller_sets_how_much_history_is_kept(gateway: Gateway) -> None:
    with refused("caller.not_allowed"):
        gateway.set_history(canister(3), 1)
    with refused("history.bytes"):
        gateway.set_history(OWNER, 1_073_741_825)


def test_waiting_is_not_ordered(gateway: Gateway) -> None:
    ticket = gateway.submit_sealed(ALICE, b"x")
    assert gateway.take_answer(ALICE, ticket) == Waiting()
