"""Invariant: whatever an app asks and a model says, plain or sealed, of three families, the cell answers without an
exception and without a fault of its text side, the answer ends in a receipt and reads as a client reads it, and every
set of kernels says the same.
"""

from __future__ import annotations

from tests.text_grammar import FOUND, Read, pair_of
from tests.text_pairs import check

# Two bytes a choice: a user's message and an offered tool, answered with each case that was found, plain.
SEEDS: list[bytes] = [b"", *(bytes([0, number] * 40) for number in range(16)), *(case.encode() for case in FOUND)]


def one_input(data: bytes) -> None:
    check(pair_of(Read(data)))
