"""Ed25519 signatures under public keys that mean one thing to every verifier: one encoding each, and no torsion.

The library verifies as RFC 8032 without the cofactor: it recomputes R and compares its bytes, and refuses an S that is
not reduced. What it does not look at is the public key: one of small order verifies signatures nobody made, and one
with a small-order part is where two verifiers disagree. So a key is held to three things first: its encoding is the
canonical one, it is on the curve, and it lies in the subgroup of prime order.
"""

from __future__ import annotations

import functools
from typing import Final, Protocol

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

KEY_BYTES: Final = 32
SIGNATURE_BYTES: Final = 64

_P: Final = 2**255 - 19
_ORDER: Final = 2**252 + 27742317777372353535851937790883648493
_D: Final = -121665 * pow(121666, -1, _P) % _P
_ROOT_OF_MINUS_ONE: Final = pow(2, (_P - 1) // 4, _P)
_Point = tuple[int, int, int, int]  # extended coordinates: x, y, z, xy/z
_NEUTRAL: Final = (0, 1, 1, 0)


class Signer(Protocol):
    """A private key, wherever it is held."""

    def sign(self, data: bytes, /) -> bytes: ...


@functools.lru_cache(maxsize=256)
def expected_instead(raw: bytes) -> str | None:
    """What a key must be and this one is not, in words; None for a sound one."""
    if len(raw) != KEY_BYTES:
        return f"{KEY_BYTES} bytes"
    point = _decompressed(raw)
    if point is None:
        return "the one encoding of a point of the curve"
    if _is_neutral(point) or not _is_neutral(_times(_ORDER, point)):
        return "a point of prime order"
    return None


def holds(raw_key: bytes, signature: bytes, message: bytes) -> bool:
    """Whether the holder of this key signed this message. Under an unsound key nothing holds."""
    if expected_instead(raw_key) is not None:
        return False
    try:
        Ed25519PublicKey.from_public_bytes(raw_key).verify(signature, message)
    except InvalidSignature:
        return False
    return True


def _decompressed(raw: bytes) -> _Point | None:
    """RFC 8032 section 5.1.3, of canonical encodings alone."""
    sign, y = raw[31] >> 7, int.from_bytes(raw, "little") & (2**255 - 1)
    if y >= _P:
        return None
    u, v = (y * y - 1) % _P, (_D * y * y + 1) % _P
    x = u * pow(v, 3, _P) * pow(u * pow(v, 7, _P), (_P - 5) // 8, _P) % _P
    if (v * x * x - u) % _P:
        x = x * _ROOT_OF_MINUS_ONE % _P
        if (v * x * x - u) % _P:
            return None
    if x == 0 and sign:
        return None
    x = _P - x if x & 1 != sign else x
    return x, y, 1, x * y % _P


def _sum(one: _Point, two: _Point) -> _Point:
    a = (one[1] - one[0]) * (two[1] - two[0]) % _P
    b = (one[1] + one[0]) * (two[1] + two[0]) % _P
    c = 2 * one[3] * two[3] * _D % _P
    d = 2 * one[2] * two[2] % _P
    e, f, g, h = b - a, d - c, d + c, b + a
    return e * f % _P, g * h % _P, f * g % _P, e * h % _P


def _times(scalar: int, point: _Point) -> _Point:
    total = _NEUTRAL
    while scalar:
        if scalar & 1:
            total = _sum(total, point)
        point = _sum(point, point)
        scalar >>= 1
    return total


def _is_neutral(point: _Point) -> bool:
    return point[0] % _P == 0 and (point[1] - point[2]) % _P == 0
