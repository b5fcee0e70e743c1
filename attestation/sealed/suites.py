"""HPKE (RFC 9180), base mode, one message: two suites and the keys they take.

    ML-KEM-768 with X25519 (X-Wing's pair)      what a client uses unless it cannot: prompts on a chain are kept
    X25519                                      for clients without it

Both with HKDF-SHA256 and AES-256-GCM. Whoever seals is not authenticated: anyone can, to a public key.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from enum import IntEnum
from functools import cached_property
from typing import Final, Self

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PrivateKey, MLKEM768PublicKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.hpke import AEAD, KDF, KEM, MLKEM768X25519PrivateKey, MLKEM768X25519PublicKey, Suite

from attestation.sealed.errors import KeysRefused, SealedRefused
from foundation.digests import tagged_sha256
from foundation.refusal import shown
from foundation.secrecy import Secret

KEY_ID_TAG: Final = "anchorhold/service-key/id/v1"
X25519_BYTES: Final = 32
MLKEM_SEED_BYTES: Final = 64
MLKEM_PUBLIC_BYTES: Final = 1184

Randomness = Callable[[int], bytes]


class SuiteId(IntEnum):
    """The numbers are in requests on the chain."""

    MLKEM768_X25519 = 1
    X25519 = 2


SECRET_BYTES: Final = {SuiteId.MLKEM768_X25519: MLKEM_SEED_BYTES + X25519_BYTES, SuiteId.X25519: X25519_BYTES}
PUBLIC_BYTES: Final = {SuiteId.MLKEM768_X25519: MLKEM_PUBLIC_BYTES + X25519_BYTES, SuiteId.X25519: X25519_BYTES}
ENCAPSULATED_BYTES: Final = {SuiteId.MLKEM768_X25519: 1088 + X25519_BYTES, SuiteId.X25519: X25519_BYTES}
TAG_BYTES: Final = 16
_KEM: Final = {SuiteId.MLKEM768_X25519: KEM.MLKEM768_X25519, SuiteId.X25519: KEM.X25519}
_HPKE: Final = {number: Suite(kem, KDF.HKDF_SHA256, AEAD.AES_256_GCM) for number, kem in _KEM.items()}


@dataclass(frozen=True, slots=True)
class SealingKey:
    """The public half of a service key. Raises `KeysRefused` unless it is one of its suite."""

    suite: SuiteId
    raw: bytes
    _public: X25519PublicKey | MLKEM768X25519PublicKey = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if len(self.raw) != PUBLIC_BYTES[self.suite]:
            raise KeysRefused("public", expected=f"{PUBLIC_BYTES[self.suite]} bytes", got=len(self.raw))
        try:
            public = _public(self.suite, self.raw)
        except ValueError:
            raise KeysRefused("public", expected=f"a key of {self.suite.name}", got=shown(self.raw)) from None
        object.__setattr__(self, "_public", public)

    @property
    def id(self) -> bytes:
        """What a request names its key by."""
        return tagged_sha256(KEY_ID_TAG, bytes([self.suite]), self.raw)

    def seal(self, plaintext: bytes, info: bytes) -> bytes:
        return _HPKE[self.suite].encrypt(plaintext, self._public, info)


class OpeningKey:
    """The private half, kept as the seeds it is made of."""

    __slots__ = ("__dict__", "_private", "secret", "suite")

    def __init__(self, suite: SuiteId, secret: Secret) -> None:
        """Raises `KeysRefused` for seeds of another length."""
        raw = secret.lend()
        if len(raw) != SECRET_BYTES[suite]:
            raise KeysRefused("secret", expected=f"{SECRET_BYTES[suite]} bytes", got=len(raw))
        self.suite: Final = suite
        self.secret: Final = secret
        self._private: Final = _private(suite, raw)

    @classmethod
    def make(cls, suite: SuiteId, randomness: Randomness) -> Self:
        return cls(suite, Secret(randomness(SECRET_BYTES[suite])))

    @cached_property
    def public(self) -> SealingKey:
        raw = self.secret.lend()
        x25519 = X25519PrivateKey.from_private_bytes(raw[-X25519_BYTES:]).public_key().public_bytes_raw()
        if self.suite is SuiteId.X25519:
            return SealingKey(self.suite, x25519)
        mlkem = MLKEM768PrivateKey.from_seed_bytes(raw[:MLKEM_SEED_BYTES]).public_key().public_bytes_raw()
        return SealingKey(self.suite, mlkem + x25519)

    def open(self, sealed: bytes, info: bytes) -> bytes:
        """Raises `SealedRefused` unless `sealed` was sealed to this key under this `info` and is unchanged."""
        try:
            return _HPKE[self.suite].decrypt(sealed, self._private, info)
        except (InvalidTag, ValueError):
            raise SealedRefused(
                "unsealable", expected="sealed to this key, for this cell", got=f"{len(sealed)} bytes that do not open"
            ) from None


def _public(suite: SuiteId, raw: bytes) -> X25519PublicKey | MLKEM768X25519PublicKey:
    x25519 = X25519PublicKey.from_public_bytes(raw[-X25519_BYTES:])
    if suite is SuiteId.X25519:
        return x25519
    return MLKEM768X25519PublicKey(MLKEM768PublicKey.from_public_bytes(raw[:MLKEM_PUBLIC_BYTES]), x25519)


def _private(suite: SuiteId, raw: memoryview) -> X25519PrivateKey | MLKEM768X25519PrivateKey:
    x25519 = X25519PrivateKey.from_private_bytes(raw[-X25519_BYTES:])
    if suite is SuiteId.X25519:
        return x25519
    return MLKEM768X25519PrivateKey(MLKEM768PrivateKey.from_seed_bytes(raw[:MLKEM_SEED_BYTES]), x25519)
