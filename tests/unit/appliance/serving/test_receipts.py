"""The cell's book of receipts: in order, once, and of the right kind. receipt.md T4, T22."""

from __future__ import annotations

import pytest

from appliance.serving.receipts import ReceiptBook
from attestation.consensus.blocks import Kind
from attestation.receipts.checkpoint import SignedCheckpoint
from attestation.receipts.outcome import Finish, Outcome, answer_digest
from attestation.receipts.seeds import NO_SALT, SeedPolicy, client_seed, seed_commitment
from tests.little_receipts import PRICE, book, issue_blocks, ordered, plain, raw, receipt_key, refused, sealed


def test_a_receipt_says_what_ran_and_what_it_cost() -> None:  # receipt.md T4, T17
    request = ordered(1, 0, 0)
    receipt = book().issue(request, plain(request)).receipt
    assert (receipt.request, receipt.place, receipt.id) == (request.request_digest, (1, 0), 0)
    assert (receipt.price, receipt.cycles) == (PRICE.digest, PRICE.cycles(12, 7))
    assert receipt.answer == answer_digest((b"..",))


def test_a_sealed_answer_s_receipt_shows_the_bucket_alone() -> None:  # receipt.md T5, T14
    request = ordered(1, 0, 0, Kind.SEALED)
    receipt = book().issue(request, sealed(request)).receipt
    assert (receipt.finish, receipt.tokens_in, receipt.tokens_out) == (Finish.SEALED, 16, 16)
    assert receipt.cycles == PRICE.cycles(16, 16)
    assert receipt.outcome != Outcome(Finish.LENGTH, 12, 7, b"\x01" * 32, b"\x02" * 32).commitment()


def test_a_refusal_costs_the_request() -> None:  # receipt.md T6, T17
    request = ordered(1, 0, 0)
    assert book().issue(request, refused(request)).receipt.cycles == PRICE.request


def test_a_client_s_number_is_salted_and_the_beacon_s_seed_is_not() -> None:  # receipt.md T15
    request = ordered(1, 0, 0, Kind.SEALED)
    hidden = sealed(request)
    chosen = type(hidden).sealed_answer(
        hidden.outcome, hidden.answer, SeedPolicy.CLIENT, client_seed(5), salt=hidden.salt, tokens_in=16, tokens_out=16
    )
    assert hidden.seed_salt == NO_SALT
    assert book().issue(request, chosen).receipt.seed == seed_commitment(client_seed(5), hidden.salt)


@pytest.mark.parametrize(
    "places", [[(1, 1)], [(1, 0), (1, 0)], [(1, 0), (1, 2)], [(1, 0), (3, 0)], [(2, 0), (1, 0)], [(1, 0), (2, 1)]]
)
def test_the_order_is_kept_or_nothing_is_signed(places: list[tuple[int, int]]) -> None:  # receipt.md T22
    of = book()
    for height, index in places[:-1]:
        of.issue(ordered(height, index, index), plain(ordered(height, index, index)))
    size, note = of.size, of.checkpoint()
    wrong = ordered(*places[-1], places[-1][1])
    with pytest.raises(AssertionError):
        of.issue(wrong, plain(wrong))
    assert (of.size, of.checkpoint()) == (size, note)


def test_a_conclusion_is_of_its_request_s_kind() -> None:  # receipt.md T5
    request = ordered(1, 0, 0, Kind.SEALED)
    with pytest.raises(AssertionError):
        book().issue(request, plain(request))


def test_the_tree_is_over_the_bodies_and_the_book_keeps_none_of_them() -> None:  # receipt.md T18
    of = book()
    issue_blocks(of, [100, 56])
    assert of.size == 156
    assert SignedCheckpoint.parse(of.checkpoint()).verify(raw(receipt_key("cell a"))).size == 156
    kept = sum(len(part) for part in of._tree._edge)
    assert kept <= 32 * of.size.bit_length()


def test_a_conclusion_does_not_show_its_secrets() -> None:  # receipt.md T14
    shown = repr(sealed(ordered(1, 0, 0, Kind.SEALED)))
    for hidden in (b"hidden words".hex(), repr(b"\x5a" * 32), "trace"):
        assert hidden not in shown
    assert isinstance(book(), ReceiptBook)
