"""Ed25519 keys that sign receipts: sound ones (`foundation.ed25519`), or none (docs/spec/receipt.md T11)."""

from __future__ import annotations

import functools
from typing import Final

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from attestation.receipts.errors import SignatureRefused
from foundation import ed25519

KEY_BYTES: Final = ed25519.KEY_BYTES
SIGNATURE_BYTES: Final = 64


@functools.lru_cache(maxsize=64)
def public_key(raw: bytes) -> Ed25519PublicKey:
    """Raises `SignatureRefused` for a key that two verifiers could judge differently."""
    expected = ed25519.expected_instead(raw)
    if expected is not None:
        raise SignatureRefused("key", expected=expected, got="another key")
    return Ed25519PublicKey.from_public_bytes(raw)


def verify(raw_key: bytes, signature: bytes, message: bytes, *, what: str) -> None:
    """Raises `SignatureRefused` unless the holder of this key signed this message."""
    key = public_key(raw_key)
    try:
        key.verify(signature, message)
    except InvalidSignature:
        raise SignatureRefused("signature", expected=f"{what} signed by this key", got="otherwise") from None
