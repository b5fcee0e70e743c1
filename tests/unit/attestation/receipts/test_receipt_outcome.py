"""receipt.md T12 to T17: what is committed to, and what it costs."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from attestation.receipts.errors import PriceRefused, ReceiptRefused
from attestation.receipts.outcome import NO_ANSWER, Finish, Opening, Outcome, answer_digest
from attestation.receipts.price import CYCLES_MAX, FREE, TOKENS_MAX, PriceSchedule
from attestation.receipts.seeds import beacon_seed, client_seed, seed_commitment
from foundation import cbor
from foundation.digests import tagged_sha256

OUTCOME = Outcome(Finish.LENGTH, 12, 7, b"\x01" * 32, b"\x02" * 32)
SALT = b"\x5a" * 32


def test_an_answer_s_digest_is_of_the_bytes_joined() -> None:  # receipt.md T12
    assert answer_digest((b"ab", b"c")) == answer_digest((b"abc",)) == tagged_sha256("anchorhold/answer/v1", b"abc")
    assert answer_digest(()) == NO_ANSWER


def test_the_commitment_by_hand() -> None:  # receipt.md T13
    encoded = cbor.encode([1, 12, 7, b"\x01" * 32, b"\x02" * 32])
    assert OUTCOME.commitment(SALT) == tagged_sha256("anchorhold/outcome/v1", SALT, encoded)


def test_an_opening_opens_its_commitment_and_no_other() -> None:  # receipt.md T13, T14
    opening = Opening.parse(Opening(SALT, OUTCOME).encode())
    opening.check(OUTCOME.commitment(SALT))
    for other in (OUTCOME.commitment(), OUTCOME.commitment(b"\x5b" * 32)):
        with pytest.raises(ReceiptRefused, match="outcome"):
            opening.check(other)


def test_the_same_outcome_under_two_salts_looks_different() -> None:  # receipt.md T14
    assert OUTCOME.commitment(SALT) != OUTCOME.commitment()


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"\x80",
        cbor.encode([SALT, 255, 1, 1, SALT, SALT]),
        cbor.encode([SALT, 0, True, 1, SALT, SALT]),
        cbor.encode([SALT, 7, 1, 1, SALT, SALT]),
        cbor.encode([b"", 0, 1, 1, SALT, SALT]),
        cbor.encode([SALT, "a.code", 1, 0, NO_ANSWER, bytes(32)]),
        cbor.encode([SALT, 0, -1, 1, SALT, SALT]),
    ],
)
def test_what_is_no_opening(raw: bytes) -> None:  # receipt.md T13
    with pytest.raises(ReceiptRefused):
        Opening.parse(raw)


def test_seeds_and_what_is_said_of_them() -> None:  # receipt.md T15
    beacon = b"\x07" * 32
    assert beacon_seed(beacon, 5) == tagged_sha256("anchorhold/seed/v1", beacon, bytes(7) + b"\x05")
    assert client_seed(5) == tagged_sha256("anchorhold/seed/client/v1", bytes(7) + b"\x05")
    assert seed_commitment(SALT) == tagged_sha256("anchorhold/seed/commitment/v1", bytes(32), SALT)
    assert seed_commitment(SALT, SALT) != seed_commitment(SALT)


def test_the_sum_by_hand() -> None:  # receipt.md T16, T17
    price = PriceSchedule.of({"request": 1_000_000, "token_in": 2_000, "token_out": 10_000})
    assert price.cycles(12, 7) == 1_094_000
    assert price.digest == tagged_sha256("anchorhold/price/v1", cbor.encode([1, 1_000_000, 2_000, 10_000]))
    assert FREE.cycles(12, 7) == 0


@given(*[st.integers(0, CYCLES_MAX)] * 3, *[st.integers(0, TOKENS_MAX)] * 2)
def test_a_sum_always_fits(request: int, token_in: int, token_out: int, into: int, out: int) -> None:  # receipt.md T17
    assert 0 <= PriceSchedule(request, token_in, token_out).cycles(into, out) < 1 << 64


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"request": 1, "token_in": 1},
        {"request": 1, "token_in": 1, "token_out": 1, "tip": 1},
        {"request": "1", "token_in": 1, "token_out": 1},
        {"request": True, "token_in": 1, "token_out": 1},
        {"request": 1.0, "token_in": 1, "token_out": 1},
        {"request": -1, "token_in": 1, "token_out": 1},
        {"request": CYCLES_MAX + 1, "token_in": 1, "token_out": 1},
    ],
    ids=str,
)
def test_what_is_no_price(fields: dict[str, object]) -> None:  # receipt.md T16
    with pytest.raises(PriceRefused):
        PriceSchedule.of(fields)
