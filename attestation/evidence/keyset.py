"""The keys of one boot of a cell, as one value with one digest.

A cell makes its keys when it starts and never shows the private halves to anyone. What it shows is this set;
its digest is what a quote binds (docs/spec/evidence-production.md E117), so that whoever believes the quote
believes these keys and no others. A keyset by itself proves nothing: it is a claim until that check is made.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import NewType

from attestation.errors import FormatRefused
from foundation import cbor
from foundation.digests import tagged_sha256
from foundation.refusal import difference, outline
from foundation.sized import Digest32

VERSION = 1
KEYS_MAX = 4
KEYSET_BYTES_MAX = 8 * 1024
KEYSET_TAG = "anchorhold/keyset/v1"

KeysetDigest = NewType("KeysetDigest", Digest32)

_LIMITS = cbor.Limits(bytes_max=KEYSET_BYTES_MAX, depth_max=3, items_max=4 * KEYS_MAX + 8)


class MalformedKeyset(FormatRefused):
    """The bytes are no keyset, or a key is not what its place needs."""


class KeyUse(IntEnum):
    RECEIPT = 1  # signs receipts and statements
    RELEASE = 2  # keys are released under it


class KeyAlgorithm(IntEnum):
    ED25519 = 1
    P256 = 2  # uncompressed point
    X25519 = 3
    MLKEM768_X25519 = 4


KEY_BYTES = {
    KeyAlgorithm.ED25519: 32,
    KeyAlgorithm.P256: 65,
    KeyAlgorithm.X25519: 32,
    KeyAlgorithm.MLKEM768_X25519: 1184 + 32,
}
ALLOWED = {
    KeyUse.RECEIPT: frozenset({KeyAlgorithm.ED25519, KeyAlgorithm.P256}),
    KeyUse.RELEASE: frozenset({KeyAlgorithm.P256, KeyAlgorithm.X25519, KeyAlgorithm.MLKEM768_X25519}),
}


@dataclass(frozen=True, slots=True)
class PublicKey:
    """One public key: what it may be used for, how, and its raw bytes. Raises `MalformedKeyset`."""

    use: KeyUse
    algorithm: KeyAlgorithm
    raw: bytes

    def __post_init__(self) -> None:
        if self.algorithm not in ALLOWED[self.use]:
            expected = f"an algorithm for {self.use.name}"
            raise MalformedKeyset("keyset.algorithm", expected=expected, got=self.algorithm.name)
        if len(self.raw) != KEY_BYTES[self.algorithm]:
            raise MalformedKeyset("keyset.key-length", expected=KEY_BYTES[self.algorithm], got=len(self.raw))


@dataclass(frozen=True, slots=True)
class Keyset:
    """At most one key per use, in the order of the uses, and always one for receipts."""

    keys: tuple[PublicKey, ...]

    def __post_init__(self) -> None:
        uses = [key.use for key in self.keys]
        if uses != sorted(set(uses)) or KeyUse.RECEIPT not in uses:
            got = ", ".join(use.name for use in uses) or "none"
            raise MalformedKeyset("keyset.uses", expected="each use once, in order, RECEIPT first", got=got)

    def key(self, use: KeyUse) -> PublicKey | None:
        return next((key for key in self.keys if key.use is use), None)

    def encode(self) -> bytes:
        return cbor.encode([VERSION, [[int(key.use), int(key.algorithm), key.raw] for key in self.keys]])

    @property
    def digest(self) -> KeysetDigest:
        return KeysetDigest(tagged_sha256(KEYSET_TAG, self.encode()))

    @classmethod
    def parse(cls, raw: bytes) -> Keyset:
        """Raises `MalformedKeyset`, nothing else."""
        value = cbor.decode_or(MalformedKeyset, "keyset.cbor", raw, _LIMITS)
        match value:
            case [int() as version, list() as keys] if version == VERSION and len(keys) <= KEYS_MAX:
                keyset = cls(tuple(_key(key) for key in keys))
            case _:
                raise MalformedKeyset("keyset.shape", expected=f"[{VERSION}, [key, ...]]", got=outline(value))
        if keyset.encode() != raw:  # true and false count as numbers to Python, not to the encoding
            raise MalformedKeyset(
                "keyset.shape", expected="numbers where they belong", got=difference(raw, keyset.encode())
            )
        return keyset


def _key(value: cbor.Value) -> PublicKey:
    match value:
        case [int() as use, int() as algorithm, bytes() as raw]:
            try:
                return PublicKey(KeyUse(use), KeyAlgorithm(algorithm), raw)
            except ValueError:
                raise MalformedKeyset(
                    "keyset.kind", expected="a known use and algorithm", got=f"{use}, {algorithm}"
                ) from None
        case _:
            raise MalformedKeyset("keyset.shape", expected="[use, algorithm, bytes]", got=outline(value))
