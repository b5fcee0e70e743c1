"""receipt.md T1 to T8: one body, one encoding, and members that agree with each other."""

from __future__ import annotations

import itertools
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from attestation.consensus.blocks import Kind
from attestation.receipts.body import Receipt, body_digest, first_previous
from attestation.receipts.errors import ReceiptRefused
from attestation.receipts.outcome import NO_ANSWER, Finish, Outcome
from attestation.receipts.seeds import SeedPolicy
from foundation import cbor
from tests.little_receipts import SERVED_BY, book, issue_blocks, ordered, plain, refused, sealed

PLAIN = book().issue(ordered(1, 0, 0), plain(ordered(1, 0, 0))).receipt
SEALED = book().issue(ordered(1, 0, 0, Kind.SEALED), sealed(ordered(1, 0, 0))).receipt
REFUSED = book().issue(ordered(1, 0, 0), refused(ordered(1, 0, 0))).receipt


@pytest.mark.parametrize("receipt", [PLAIN, SEALED, REFUSED], ids=["plain", "sealed", "refused"])
def test_a_body_reads_back(receipt: Receipt) -> None:  # receipt.md T1
    assert Receipt.parse(receipt.encode()) == receipt


def test_the_array_by_hand() -> None:  # receipt.md T1, T4
    match cbor.decode(PLAIN.encode()):
        case [
            1,
            ["devnet", adoption],
            config,
            [root, tokenizer, template],
            [profile, fingerprint],
            [gateway, 1, 0, 0],
            [0, request],
            [0, seed],
            [answer, outcome, 0],
            [12, 7, price, cycles],
            previous,
        ]:
            assert (adoption, config) == (bytes(32), SERVED_BY.config)
            assert (root, tokenizer, template) == (b"\x30" * 32, b"\x31" * 32, b"\x32" * 32)
            assert (profile, fingerprint, gateway) == (b"\xe0" * 32, b"\xe1" * 32, PLAIN.gateway)
            assert (request, seed, answer, outcome) == (PLAIN.request, PLAIN.seed, PLAIN.answer, PLAIN.outcome)
            assert (price, cycles, previous) == (PLAIN.price, PLAIN.cycles, PLAIN.previous)
        case other:
            pytest.fail(f"{other}")


@given(st.data())
def test_every_changed_byte_is_another_body_or_none(data: st.DataObject) -> None:  # receipt.md T8
    raw = bytearray(SEALED.encode())
    place = data.draw(st.integers(0, len(raw) - 1))
    raw[place] ^= data.draw(st.integers(1, 255))
    try:
        found = Receipt.parse(bytes(raw))
    except ReceiptRefused:
        return
    assert found != SEALED
    assert found.encode() == bytes(raw)


@pytest.mark.parametrize(
    "change",
    [
        {"finish": Finish.SEALED},
        {"kind": Kind.SEALED},
        {"index": 256},
        {"index": -1},
        {"height": 0},
        {"id": 1 << 64},
        {"index": 1},
        {"tokens_in": (1 << 22) + 1},
        {"cycles": 1 << 64},
        {"request": b""},
        {"gateway": b""},
        {"gateway": bytes(30)},
        {"finish": "Not.A.Code"},
        {"finish": ""},
        {"finish": "c" * 65},
        {"finish": "chat.model"},
    ],
    ids=str,
)
def test_members_that_cannot_be_or_do_not_agree(change: dict[str, object]) -> None:  # receipt.md T5, T6, T8
    with pytest.raises(ReceiptRefused):
        replace(PLAIN, **change)


@pytest.mark.parametrize(
    "change",
    [
        {"tokens_out": 1},
        {"answer": bytes(32)},
        {"outcome": bytes(32)},
        {"seed_policy": SeedPolicy.CLIENT},
        {"finish": "chat.encoding"},
    ],
    ids=str,
)
def test_a_refusal_says_nothing_besides_its_code(change: dict[str, object]) -> None:  # receipt.md T6
    assert (REFUSED.answer, REFUSED.outcome) == (NO_ANSWER, Outcome.refusal("chat.model").commitment())
    with pytest.raises(ReceiptRefused, match="refusal"):
        replace(REFUSED, **change)


def test_a_sealed_request_may_be_refused() -> None:  # receipt.md T5, T6
    request = ordered(1, 0, 0, Kind.SEALED)
    receipt = book().issue(request, refused(request, "sealed.key")).receipt
    assert (receipt.kind, receipt.finish, receipt.refused) == (Kind.SEALED, "sealed.key", True)


@pytest.mark.parametrize(("release", "adoption"), [("", bytes(32)), ("devnet", None)])
def test_a_release_and_its_decision_come_together(release: str, adoption: bytes | None) -> None:  # receipt.md T2
    with pytest.raises(ReceiptRefused, match="release"):
        replace(SERVED_BY, release=release, adoption=adoption)
    assert replace(SERVED_BY, release="", adoption=None).release == ""


@pytest.mark.parametrize("name", [" lead", "trail ", "new\nline", "\N{SNOWMAN}", "n" * 129])
def test_a_name_is_printable(name: str) -> None:  # receipt.md T2
    with pytest.raises(ReceiptRefused, match="release"):
        replace(SERVED_BY, release=name)


def test_a_cell_without_a_pack_names_no_model() -> None:  # receipt.md T3
    bare = replace(SERVED_BY, model_root=None, tokenizer=None, template=None)
    receipt = replace(PLAIN, by=bare)
    assert Receipt.parse(receipt.encode()) == receipt
    with pytest.raises(ReceiptRefused):
        replace(SERVED_BY, fingerprint=b"short")


def test_receipts_of_a_block_are_a_chain_from_the_block_on() -> None:  # receipt.md T7
    issued = issue_blocks(book(), [3, 2])
    for one in issued:
        if one.receipt.index == 0:
            assert one.receipt.previous == first_previous(ordered(one.receipt.height, 0, 0).link)
    for before, after in itertools.pairwise(issued):
        if after.receipt.index:
            assert after.receipt.previous == body_digest(before.body)


def test_a_cell_that_joins_later_makes_the_same_bodies() -> None:  # receipt.md T7, T8
    early = issue_blocks(book("early"), [3, 2, 2])
    late = issue_blocks(book("late"), [2, 2], from_height=2, first_id=3)
    assert [one.body for one in early[3:]] == [one.body for one in late]
    assert all(one.signed != two.signed for one, two in zip(early[3:], late, strict=True))


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"\xf6",
        b"\x80",
        cbor.encode([2]),
        cbor.encode([1, [], 2]),
        b"\x8b" * 40,
        PLAIN.encode() + b"\0",
        PLAIN.encode().replace(b"\x84\x0c\x07", b"\x84\xf5\x07"),
        PLAIN.encode()[:-1],
        b"\x8b\xf5" + PLAIN.encode()[2:],
    ],
)
def test_other_bytes_are_refused(raw: bytes) -> None:  # receipt.md T8
    with pytest.raises(ReceiptRefused):
        Receipt.parse(raw)
