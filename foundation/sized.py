"""Digests of a known length. Each room derives from them a name for every meaning it has.

    ModelRoot = NewType("ModelRoot", Digest32)
    ModelRoot(digest32(raw))                     of bytes that somebody sent: the length is checked here
    ModelRoot(tagged_sha256(TAG, value))         of a digest that was computed here

They are bytes when the program runs, so encodings and speed do not change. mypy refuses a digest of one meaning in the
place of another, and bytes whose length nobody checked in the place of either.
"""

from __future__ import annotations

from typing import Final, NewType

DIGEST_BYTES: Final = 32
LONG_DIGEST_BYTES: Final = 48

Digest32 = NewType("Digest32", bytes)
"""SHA-256."""
Digest48 = NewType("Digest48", bytes)
"""SHA-384: the registers of a machine."""


class WrongSize(ValueError):
    """Bytes that are no digest of this length."""


def digest32(raw: bytes) -> Digest32:
    _check(raw, DIGEST_BYTES)
    return Digest32(raw)


def digest48(raw: bytes) -> Digest48:
    _check(raw, LONG_DIGEST_BYTES)
    return Digest48(raw)


def _check(raw: bytes, size: int) -> None:
    if len(raw) != size:
        raise WrongSize(f"a digest has {size} bytes, got {len(raw)}")
