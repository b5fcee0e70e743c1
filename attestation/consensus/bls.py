"""BLS12-381 signatures as the Internet Computer makes them: 48 bytes in G1, public keys of 96 bytes in G2.

Refused besides a wrong signature: wrong lengths, points off the curve or outside the prime-order subgroup,
the identity in either place (it pairs with everything), and every encoding of a point but its own.

`verify` is the whole seam: a second implementation is held against it in the tests.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any, Final

from py_arkworks_bls12381 import GT, G1Point, G2Point

from attestation.consensus.refusals import FormatRefused, SignatureRefused
from foundation.refusal import shown

SIGNATURE_BYTES = 48
PUBLIC_KEY_BYTES = 96

_DST: Final = b"BLS_SIG_BLS12381G1_XMD:SHA-256_SSWU_RO_NUL_"
_DER_PREFIX: Final = bytes.fromhex("308182301d060d2b0601040182dc7c0503010201060c2b0601040182dc7c05030201036100")
_IDENTITY_1: Final = G1Point.identity()
_IDENTITY_2: Final = G2Point.identity()
_NEGATED_GENERATOR: Final = -G2Point()


def verify(public_key: bytes, signature: bytes, message: bytes) -> None:
    """Raises `SignatureRefused` unless `signature` is the holder of `public_key` signing `message`."""
    key = _public_point(public_key)
    point = _signature_point(signature)
    hashed = G1Point.hash_to_curve(message, _DST)
    if not GT.pairing_check([point, hashed], [_NEGATED_GENERATOR, key]):
        raise SignatureRefused(
            "signature.invalid", expected="a signature by this key", got=f"{shown(signature)} over {len(message)} bytes"
        )


def check_public_key(public_key: bytes) -> bytes:
    """`public_key` itself, if it is a key that can verify anything."""
    _public_point(public_key)
    return public_key


def public_key_from_der(der: bytes) -> bytes:
    """The 96 bytes inside a SubjectPublicKeyInfo of the Internet Computer's kind, the point unchecked."""
    if len(der) != len(_DER_PREFIX) + PUBLIC_KEY_BYTES or not der.startswith(_DER_PREFIX):
        raise FormatRefused("key.der", expected="DER of a BLS12-381 G2 key", got=f"{len(der)} other bytes")
    return der[len(_DER_PREFIX) :]


def public_key_to_der(public_key: bytes) -> bytes:
    return _DER_PREFIX + public_key


@lru_cache(maxsize=64)
def _public_point(raw: bytes) -> Any:
    # Kept because decoding checks the subgroup each time; a point is never changed once made.
    if len(raw) != PUBLIC_KEY_BYTES:
        raise _refused("key-length", f"{PUBLIC_KEY_BYTES} bytes", f"{len(raw)}")
    try:
        point = G2Point.from_compressed_bytes(raw)
    except ValueError:
        raise _refused("key-point", "a point of the subgroup of G2", shown(raw)) from None
    if point == _IDENTITY_2:
        raise _refused("key-identity", "a key", "the identity point")
    if bytes(point.to_compressed_bytes()) != raw:
        raise _refused(
            "key-point",
            "the point's own encoding",
            f"{shown(raw)} instead of {shown(bytes(point.to_compressed_bytes()))}",
        )
    return point


def _signature_point(raw: bytes) -> Any:
    if len(raw) != SIGNATURE_BYTES:
        raise _refused("length", f"{SIGNATURE_BYTES} bytes", f"{len(raw)}")
    try:
        point = G1Point.from_compressed_bytes(raw)
    except ValueError:
        raise _refused("point", "a point of the subgroup of G1", shown(raw)) from None
    if point == _IDENTITY_1:
        raise _refused("identity", "a signature", "the identity point")
    # The library reads 48 bytes of 0xff as the identity: only the round trip shows a second encoding.
    if bytes(point.to_compressed_bytes()) != raw:
        raise _refused(
            "point", "the point's own encoding", f"{shown(raw)} instead of {shown(bytes(point.to_compressed_bytes()))}"
        )
    return point


def _refused(code: str, expected: str, got: str) -> SignatureRefused:
    return SignatureRefused(f"signature.{code}", expected=expected, got=got)
