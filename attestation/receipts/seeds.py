"""Where the randomness of an answer comes from, and what a receipt says of it (docs/spec/receipt.md T15)."""

from __future__ import annotations

from enum import IntEnum, unique
from typing import Final

from foundation.digests import DIGEST_BYTES, tagged_sha256

BEACON_TAG: Final = "anchorhold/seed/v1"
CLIENT_TAG: Final = "anchorhold/seed/client/v1"
COMMITMENT_TAG: Final = "anchorhold/seed/commitment/v1"
NO_SALT: Final = bytes(DIGEST_BYTES)


@unique
class SeedPolicy(IntEnum):
    """Where all randomness of an answer comes from."""

    BEACON = 0  # the block's beacon, drawn after the request was fixed
    CLIENT = 1  # a number the client put into its request


def beacon_seed(beacon: bytes, number: int) -> bytes:
    """`BEACON`: of the block's beacon and the request's id. Anyone can compute it."""
    return tagged_sha256(BEACON_TAG, beacon, number.to_bytes(8, "big"))


def client_seed(chosen: int) -> bytes:
    """`CLIENT`: of the number in the request alone, wherever that came to stand."""
    return tagged_sha256(CLIENT_TAG, chosen.to_bytes(8, "big"))


def seed_commitment(seed: bytes, salt: bytes = NO_SALT) -> bytes:
    """Of the seed. The salt is the outcome's where a client chose the number, which may be easy to guess; else zero."""
    return tagged_sha256(COMMITMENT_TAG, salt, seed)
