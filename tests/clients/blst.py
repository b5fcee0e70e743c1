"""A stand-in for supranational's `blst` binding, which no package index carries: what `icp-py-core` calls of it, over
the pairings that the project verifies certificates with. The signature check is real; a wrong one fails here too.
"""

from __future__ import annotations

from typing import Any

from py_arkworks_bls12381 import GT, G1Point, G2Point

BLST_SUCCESS = 0
BLST_VERIFY_FAIL = 5


class P2_Affine:  # noqa: N801  # the names are the binding's
    def __init__(self, raw: bytes) -> None:
        self.point = G2Point.from_compressed_bytes(raw)


class P1_Affine:  # noqa: N801
    def __init__(self, raw: bytes) -> None:
        self.point = G1Point.from_compressed_bytes(raw)

    def core_verify(self, key: P2_Affine, _hash: bool, message: bytes, tag: bytes, _augmentation: Any) -> int:
        hashed = G1Point.hash_to_curve(message, tag)
        holds = GT.pairing_check([self.point, hashed], [-G2Point(), key.point])
        return BLST_SUCCESS if holds else BLST_VERIFY_FAIL


class Pairing:
    """The binding's second way, which the client takes when the first fails: it finds nothing else."""

    def __init__(self, _hash: bool, tag: bytes) -> None:
        self._tag, self._held = tag, False

    def aggregate(self, key: P2_Affine, signature: P1_Affine, message: bytes, _augmentation: Any) -> None:
        self._held = signature.core_verify(key, True, message, self._tag, None) == BLST_SUCCESS

    def finalverify(self) -> bool:
        return self._held
