"""BLS12-381 signatures as the Internet Computer makes them: 48 bytes in G1, public keys of 96 bytes in G2.

Refused besides a wrong signature: wrong lengths, points off the curve or outside the prime-order subgroup,
the identity in either place (it pairs with everything), and every encoding of a point but its own.

`verify` is the whole seam: a second implementation is held against it in the tests.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any, Final

from py_arkworks_bls12381 import GT, G1Point, G2Point

from attestation.consensus.refusals import BlsRefused, EncodingRefused
from foundation.refusal import shown

SIGNATURE_BYTES = 48
PUBLIC_KEY_BYTES = 96

_DST: Final = b"BLS_SIG_BLS12381G1_XMD:SHA-256_SSWU_RO_NUL_"
_DER_PREFIX: Final = bytes.fromhex("308182301d060d2b0601040182dc7c0503010201060c2b0601040182dc7c05030201036100")
_IDENTITY_1: Final = G1Point.identity()
_IDENTITY_2: Final = G2Point.identity()
_NEGATED_GENERATOR: Final = -G2Point()


def verify(public_key: bytes, signature: bytes, message: bytes) -> None:
    """Raises `BlsRefused` unless `signature` is the holder of `public_key` signing `message`."""
    key = _public_point(public_key)
    point = _signature_point(signature)
    hashed = G1Point.hash_to_curve(message, _DST)
    if not GT.pairing_check([point, hashed], [_NEGATED_GENERATOR, key]):
        raise BlsRefused(
            "signature.invalid", expected="a signature by this key", got=f"{shown(signature)} over {len(message)} bytes"
        )


def check_public_key(public_key: bytes) -> bytes:
    """`public_key` itself, if it is a key that can verify anything."""
    _public_point(public_key)
    return public_key


def public_key_from_der(der: bytes) -> bytes:
    """The 96 bytes inside a SubjectPublicKeyInfo of the Internet Computer's kind, the point unchecked."""
    if len(der) != len(_DER_PREFIX) + PUBLIC_KEY_BYTES or not der.startswith(_DER_PREFIX):
        raise EncodingRefused("key.der", expected="DER of a BLS12-381 G2 key", got=f"{len(der)} other bytes")
    return der[len(_DER_PREFIX) :]


def public_key_to_der(public_key: bytes) -> bytes:
    return _DER_PREFIX + public_key


@lru_cache(maxsize=64)
def _public_point(raw: bytes) -> Any:
    # Kept because decoding checks the subgroup each time; a point is never changed once made.
    return _point("G2", G2Point, _IDENTITY_2, raw, size=PUBLIC_KEY_BYTES, prefix="key-", what="a key")


def _signature_point(raw: bytes) -> Any:
    return _point("G1", G1Point, _IDENTITY_1, raw, size=SIGNATURE_BYTES, prefix="", what="a signature")


def _point(name: str, group: Any, identity: Any, raw: bytes, *, size: int, prefix: str, what: str) -> Any:
    if len(raw) != size:
        raise _refused(f"{prefix}length", f"{size} bytes", f"{len(raw)}")
    try:
        point = group.from_compressed_bytes(raw)
    except ValueError:
        raise _refused(f"{prefix}point", f"a point of the subgroup of {name}", shown(raw)) from None
    if point == identity:
        raise _refused(f"{prefix}identity", what, "the identity point")
    own = bytes(point.to_compressed_bytes())
    # The library reads 48 bytes of 0xff as the identity: only the round trip shows a second encoding.
    if own != raw:
        raise _refused(f"{prefix}point", "the point's own encoding", f"{shown(raw)} instead of {shown(own)}")
    return point


def _refused(code: str, expected: str, got: str) -> BlsRefused:
    return BlsRefused(f"signature.{code}", expected=expected, got=got)
