"""Who gets in and who reads what: inspection, room in the queue, and prompts that are not for everyone."""

from __future__ import annotations

from typing import Any

import pytest

from anchorhold.host.gateway_client import Position, Waiting, chat
from attestation.auditor.audit_bundle import AskedPart
from attestation.consensus.blocks import Request
from attestation.consensus.slices import SliceProof, verify_slice
from devnet.gateway import Gateway
from devnet.lone_gateway import OWNER, REPORTER, canister, person
from devnet.replica import ANONYMOUS, Entry, Execution, Rejected
from devnet.subnet import GATEWAY
from foundation import merkle
from foundation.candid import BLOB, BOOL, NAT64, PRINCIPAL, Record, Vec, encode
from tests.gateways import Bench
from tests.unit.devnet.gateway_calls import refused

ALICE, BOB, STRANGER = person(1), person(2), person(99)
NOTHING = encode([], [])
PACE = Record({"soonest_ms": NAT64, "latest_ms": NAT64, "expiry_blocks": NAT64})


def turned_away(gateway: Gateway, caller: bytes, method: str, argument: bytes) -> bool:
    """Whether the message is refused by the look at it alone: no update runs."""
    ran: list[Execution] = []
    gateway.replica.network.observe = ran.append
    call = gateway.replica.ingress(method, argument, caller)
    gateway.replica.network.observe = None
    if [each.entry for each in ran] != [Entry.INSPECT]:
        return False
    with pytest.raises(Rejected, match="explicitly refused"):
        call.reply()
    return True


LARGE = encode([Record({"payload": BLOB})], [{"payload": bytes(1_000_000)}])


@pytest.mark.parametrize(
    ("method", "argument"),
    [
        ("report_answer", NOTHING),
        ("seal_block", NOTHING),
        ("set_reporters", encode([Vec(PRINCIPAL)], [[b"\x01" * 29] * 4_000])),
        ("set_history", encode([NAT64], [1])),
        ("set_pace", encode([PACE], [{"soonest_ms": 0, "latest_ms": 0, "expiry_blocks": 16}])),
        ("set_draining", encode([BOOL], [True])),
        ("get_slice", encode([NAT64, NAT64], [1, 256])),
        ("get_headers", encode([NAT64, NAT64], [1, 4_096])),
        ("get_entries", encode([NAT64], [1])),
        ("divergences", encode([NAT64, NAT64], [0, 256])),
        ("status", NOTHING),
        ("submit_sealed", LARGE),
        ("submit_chat", LARGE),
        ("v1_chat", LARGE),
        ("take_answer", LARGE),
    ],
)
def test_a_strangers_refused_message_is_turned_away_at_the_door(gateway: Gateway, method: str, argument: bytes) -> None:
    assert turned_away(gateway, STRANGER, method, argument)


@pytest.mark.parametrize("method", ["submit_chat", "submit_sealed", "v0_chat", "v1_chat", "take_answer"])
def test_the_anonymous_caller_is_turned_away(gateway: Gateway, method: str) -> None:
    assert turned_away(gateway, ANONYMOUS, method, NOTHING)


def test_those_who_may_are_let_in(gateway: Gateway) -> None:
    ticket = encode([NAT64], [0])
    assert not turned_away(gateway, STRANGER, "take_answer", ticket)  # certified, for whoever wants that
    assert not turned_away(gateway, REPORTER, "seal_block", NOTHING)
    assert not turned_away(gateway, REPORTER, "get_slice", encode([NAT64, NAT64], [1, 1]))
    assert not turned_away(gateway, OWNER, "set_draining", encode([BOOL], [False]))
    assert turned_away(gateway, REPORTER, "set_draining", encode([BOOL], [True]))


def test_a_caller_without_room_is_told_by_a_query(gateway: Gateway) -> None:
    one = encode([Record({"payload": BLOB})], [{"payload": b"x"}])
    assert gateway.admission_refusal(ALICE) is None
    assert gateway.admission_refusal(ANONYMOUS) == "caller.anonymous"
    for _ in range(gateway.limits()["queued_per_caller_max"]):
        gateway.submit_sealed(ALICE, b"x")
    assert turned_away(gateway, ALICE, "submit_sealed", one)
    assert gateway.admission_refusal(ALICE) == "queue.caller_full"
    assert gateway.admission_refusal(BOB) is None


# ---- room in the queue


def fill(gateway: Gateway, callers: int, each: int, first: int = 1_000) -> None:
    for number in range(callers):
        for _ in range(each):
            gateway.submit_sealed(canister(first + number), b"x")


def test_a_person_and_a_canister_have_bounds_of_their_own(gateway: Gateway) -> None:
    limits = gateway.limits()
    assert (limits["queued_per_caller_max"], limits["queued_per_canister_max"]) == (64, 256)
    fill(gateway, 1, 256)
    with refused("queue.caller_full"):
        gateway.submit_sealed(canister(1_000), b"x")
    gateway.seal_block(OWNER)
    gateway.submit_sealed(canister(1_000), b"x")


@pytest.mark.full
def test_the_last_places_are_kept_for_those_with_nothing_waiting(gateway: Gateway) -> None:
    fill(gateway, 14, 256)  # 3,584 of 4,096: the rest is kept
    with refused("queue.caller_full"):
        gateway.submit_sealed(canister(1_000), b"x")
    gateway.submit_sealed(ALICE, b"x")
    with pytest.raises(Rejected, match="explicitly refused"):
        gateway.submit_sealed(ALICE, b"a second one")
    assert gateway.admission_refusal(ALICE) == "queue.reserved"
    assert gateway.admission_refusal(BOB) is None


@pytest.mark.full
def test_a_full_queue_gives_way_to_a_caller_with_nothing_waiting(gateway: Gateway) -> None:
    fill(gateway, 14, 256)
    fill(gateway, 512, 1, first=5_000)
    assert gateway.status()["queued"] == 4_096
    ticket = gateway.submit_chat(ALICE, chat("tiny", ("user", {"content": "let me in"})))
    assert gateway.status()["queued"] == 4_096
    assert gateway.take_answer(ALICE, ticket) == Waiting()
    pushed = 255  # the newest of the first of the longest lanes
    with refused("queue.pushed_out"):
        gateway.take_answer(canister(1_000), pushed)
    assert gateway.take_answer(canister(1_000), pushed - 1) == Waiting()


@pytest.mark.full
def test_a_full_queue_of_single_prompts_is_full(gateway: Gateway) -> None:
    fill(gateway, 4_096, 1)
    assert gateway.admission_refusal(ALICE) == "queue.full"
    with refused("queue.full"):
        gateway.submit_sealed(canister(3), b"x")


# ---- who reads prompts


def test_prompts_are_read_by_reporters_and_their_owners(bench: Bench) -> None:
    # order.md O39
    gateway = bench.gateway
    for caller, text in ((ALICE, "my secret"), (BOB, "another")):
        gateway.submit_chat(caller, chat("tiny", ("user", {"content": text})))
    gateway.submit_sealed(BOB, b"ciphertext")
    gateway.seal_block(OWNER)
    for reader in (STRANGER, ALICE, ANONYMOUS):
        with pytest.raises(Rejected, match="not_allowed"):
            gateway.get_slice(1, reader=reader)
    for reader in (REPORTER, OWNER):
        assert b"my secret" in gateway.get_slice(1, reader=reader).encoded[0]

    def shown_to(reader: bytes) -> list[bool]:
        entries = gateway.get_entries(1, reader)
        assert entries is not None
        return [isinstance(each, Request) for each in entries[1]]

    assert shown_to(ANONYMOUS) == shown_to(STRANGER) == [False, False, False]
    assert shown_to(ALICE) == [True, False, False]
    assert shown_to(BOB) == [False, True, True]
    assert shown_to(REPORTER) == shown_to(OWNER) == [True, True, True]
    assert gateway.get_entries(2, OWNER) is None


def test_leaves_prove_the_order_as_bodies_do(bench: Bench) -> None:
    # order.md O39, audit.md U8
    gateway = bench.gateway
    gateway.submit_chat(ALICE, chat("tiny", ("user", {"content": "my secret"})))
    gateway.submit_chat(BOB, chat("tiny", ("user", {"content": "another"})))
    gateway.seal_block(OWNER)
    read = gateway.get_headers(1)
    assert read.certificate is not None
    entries = gateway.get_entries(1, ALICE)
    assert entries is not None
    header, (own, other) = entries
    proven = verify_slice(
        SliceProof(read.certificate, (header,), read.tree), root_key=bench.subnet.root_key, canister=GATEWAY
    )
    leaves = [each.digest() if isinstance(each, Request) else each for each in (own, other)]
    assert merkle.root(leaves) == proven.head.request_root
    assert isinstance(own, Request)
    assert (own.id, own.caller) == (0, ALICE)
    asked = AskedPart(((own, other),))  # an audit bundle takes the same
    assert AskedPart.parse(asked.encode()) == asked
    for raw in (*read.encoded, read.tree, read.certificate):
        assert b"secret" not in raw


def test_no_public_query_shows_a_prompt(bench: Bench) -> None:
    gateway = bench.gateway
    gateway.submit_chat(ALICE, chat("tiny", ("user", {"content": "my secret"})))
    gateway.seal_block(OWNER)
    arguments: dict[str, tuple[list[Any], list[Any]]] = {
        "get_headers": ([NAT64, NAT64], [1, 10]),
        "get_entries": ([NAT64], [1]),
        "status": ([], []),
        "limits": ([], []),
        "divergences": ([NAT64, NAT64], [0, 10]),
        "prove_answer": ([NAT64], [0]),
        "reporters": ([], []),
        "answer_digest": ([NAT64, NAT64], [1, 0]),
        "admission_refusal": ([], []),
        "take_answer": ([NAT64], [0]),
    }
    for method, (of, values) in arguments.items():
        assert b"secret" not in bench.replica.query(method, encode(of, values), STRANGER)
    assert gateway.take_answer(ALICE, 0) == Position(1, 0, 0)
