"""Where the randomness of an answer comes from, and what a receipt says of it (docs/spec/receipt.md T15)."""

from __future__ import annotations

from enum import IntEnum, unique
from typing import Final, NewType

from foundation.digests import DIGEST_BYTES, tagged_sha256
from foundation.sized import Digest32

Seed = NewType("Seed", Digest32)
Salt = NewType("Salt", Digest32)
SeedCommitment = NewType("SeedCommitment", Digest32)

BEACON_TAG: Final = "anchorhold/seed/v1"
CLIENT_TAG: Final = "anchorhold/seed/client/v1"
COMMITMENT_TAG: Final = "anchorhold/seed/commitment/v1"
NO_SALT: Final = Salt(Digest32(bytes(DIGEST_BYTES)))


@unique
class SeedPolicy(IntEnum):
    """Where all randomness of an answer comes from."""

    BEACON = 0  # the block's beacon, drawn after the request was fixed
    CLIENT = 1  # a number the client put into its request


def beacon_seed(beacon: bytes, number: int) -> Seed:
    """`BEACON`: of the block's beacon and the request's id. Anyone can compute it."""
    return Seed(tagged_sha256(BEACON_TAG, beacon, number.to_bytes(8, "big")))


def client_seed(chosen: int) -> Seed:
    """`CLIENT`: of the number in the request alone, wherever that came to stand."""
    return Seed(tagged_sha256(CLIENT_TAG, chosen.to_bytes(8, "big")))


def seed_commitment(seed: Seed, salt: Salt = NO_SALT) -> SeedCommitment:
    """Of the seed. The salt is the outcome's where a client chose the number, which may be easy to guess; else zero."""
    return SeedCommitment(tagged_sha256(COMMITMENT_TAG, salt, seed))
