"""receipt.md T27, T28: two histories under one key convict it, and nothing else does."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from attestation.receipts.errors import ReceiptRefused
from attestation.receipts.fork import ForkDocument, LeafAt, fork_of_logs, fork_of_receipts
from foundation import merkle
from tests.little_receipts import book, issue_blocks, ordered, plain, raw, receipt_key

KEY = raw(receipt_key("cell a"))


def history(words: bytes, size: int) -> tuple[bytes, list[bytes], list[bytes]]:
    """A note, its leaves and the signed receipts of a cell that gave this answer to the third request."""
    of = book()
    issued = issue_blocks(of, [2])
    for number in range(2, size):
        request = ordered(2, number - 2, number)
        issued.append(of.issue(request, plain(request, words if number == 2 else b"same")))
    return of.checkpoint(), [merkle.leaf(each.body) for each in issued], [each.signed for each in issued]


ONE, TWO, LONGER = history(b"one", 4), history(b"two", 4), history(b"two", 7)
FORKS = {
    "roots": fork_of_logs(KEY, ONE[:2], TWO[:2]),
    "leaves": fork_of_logs(KEY, LONGER[:2], ONE[:2]),
    "receipts": fork_of_receipts(KEY, ONE[2][2], TWO[2][2]),
}


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("roots", "signed two different logs of 4 receipts"),
        ("leaves", "that differ in number 2"),
        ("receipts", "signed two different receipts for height 2, index 0"),
    ],
)
def test_a_fork_is_found_and_proven(name: str, said: str) -> None:
    fork = FORKS[name]
    assert fork is not None
    read = ForkDocument.parse(fork.encode())
    assert read == fork
    assert said in read.check()


def test_a_log_that_only_grew_convicts_nobody() -> None:
    short = history(b"two", 4)
    assert fork_of_logs(KEY, short[:2], LONGER[:2]) is None
    assert fork_of_logs(KEY, short[:2], short[:2]) is None


@given(st.sampled_from(sorted(FORKS)), st.data())
def test_no_byte_of_a_fork_is_free(name: str, data: st.DataObject) -> None:
    fork = FORKS[name]
    assert fork is not None
    bent = bytearray(fork.encode())
    bent[data.draw(st.integers(0, len(bent) - 1))] ^= data.draw(st.integers(1, 255))
    with pytest.raises(ReceiptRefused):
        ForkDocument.parse(bytes(bent)).check()


def test_what_is_no_fork() -> None:
    with pytest.raises(ReceiptRefused, match="receipts"):
        fork_of_receipts(KEY, ONE[2][0], ONE[2][1]).check()
    with pytest.raises(ReceiptRefused):
        ForkDocument.parse(fork_of_receipts(KEY, ONE[2][0], ONE[2][0]).encode())
    leaves = FORKS["leaves"]
    assert leaves is not None
    same = ForkDocument(
        leaves.ground,
        KEY,
        leaves.first,
        leaves.second,
        0,
        (LeafAt(ONE[1][0], merkle.path(ONE[1], 0)), LeafAt(LONGER[1][0], merkle.path(LONGER[1], 0))),
    )
    with pytest.raises(ReceiptRefused, match="leaves"):
        same.check()
    other = book("cell b")
    issue_blocks(other, [4])
    with pytest.raises(ReceiptRefused):
        ForkDocument(FORKS["roots"].ground, KEY, *sorted((ONE[0], other.checkpoint()))).check()  # type: ignore[union-attr]


@pytest.mark.parametrize("raw_bytes", [b"", b"\x80", b"\x85\x01\x03\x40\x40\x41\x00", b"\x85\x01\xf4\x40\x40\x41\x00"])
def test_other_bytes_are_refused(raw_bytes: bytes) -> None:
    with pytest.raises(ReceiptRefused):
        ForkDocument.parse(raw_bytes)
