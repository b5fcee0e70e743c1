"""How a cell signs a body: COSE_Sign1 (RFC 9052) in deterministic CBOR, one encoding per signed receipt.

    18([protected, {}, body, signature])
    protected = {1: -8 (EdDSA), 4: key id, 16: "application/anchorhold-receipt+cbor"}

The signature covers body and protected header; the unprotected header is empty, so no byte is free
(docs/spec/receipt.md T9 to T11). Establishes that the holder of a key signed a body. That the key is a cell's is in
that cell's evidence.
"""

from __future__ import annotations

import hmac
from dataclasses import dataclass
from typing import Final, Protocol, Self

from attestation.receipts import ed25519
from attestation.receipts.body import BODY_BYTES_MAX, Receipt
from attestation.receipts.errors import SignatureRefused
from foundation import cbor
from foundation.digests import tagged_sha256

COSE_SIGN1: Final = 18
ALGORITHM, KEY_ID, TYPE = 1, 4, 16      # labels of COSE headers (RFC 9052; RFC 9596)
EDDSA: Final = -8
RECEIPT_TYPE: Final = "application/anchorhold-receipt+cbor"
KEY_TAG: Final = "anchorhold/receipt/key/v1"
SIGNED_BYTES_MAX: Final = BODY_BYTES_MAX + 256
_LIMITS: Final = cbor.Limits(bytes_max=SIGNED_BYTES_MAX, depth_max=3, items_max=8)


class Signer(Protocol):
    """A private Ed25519 key, wherever it is held."""

    def sign(self, data: bytes, /) -> bytes: ...


def key_id(raw_key: bytes) -> bytes:
    """The name of a receipt key: what a signed receipt and its log's origin carry."""
    return tagged_sha256(KEY_TAG, raw_key)


def _protected(key: bytes) -> bytes:
    return cbor.encode({ALGORITHM: EDDSA, KEY_ID: key, TYPE: RECEIPT_TYPE})


def _to_be_signed(protected: bytes, body: bytes) -> bytes:
    """RFC 9052 section 4.4. It begins with an array's head, so no note and no other statement reads the same."""
    return cbor.encode(["Signature1", protected, b"", body])


def sign(body: bytes, signer: Signer, raw_key: bytes) -> bytes:
    """The signed receipt. `raw_key` is the public half of `signer`."""
    protected = _protected(key_id(raw_key))
    return _assembled(protected, body, signer.sign(_to_be_signed(protected, body)))


def _assembled(protected: bytes, body: bytes, signature: bytes) -> bytes:
    return cbor.encode(cbor.Tag(COSE_SIGN1, [protected, {}, body, signature]))


@dataclass(frozen=True, slots=True)
class SignedReceipt:
    """A body and a signature that should be over it. Parsed, not believed: `verify` checks it."""

    receipt: Receipt
    body: bytes
    key: bytes
    signature: bytes

    @classmethod
    def parse(cls, raw: bytes) -> Self:
        """Raises `ReceiptRefused`, nothing else."""
        try:
            value = cbor.decode(raw, _LIMITS, tags=frozenset({COSE_SIGN1}))
        except cbor.CborRefused as refusal:
            raise SignatureRefused("cose", expected=refusal.expected, got=refusal.got) from None
        match value:
            case cbor.Tag(18, [bytes(protected), dict() as unprotected, bytes(body), bytes(signature)]) if (
                not unprotected and len(signature) == ed25519.SIGNATURE_BYTES
            ):
                pass
            case _:
                raise SignatureRefused("cose", expected="18([protected, {}, body, 64 bytes])", got="another value")
        signed = cls(Receipt.parse(body), body, _key_of(protected), signature)
        if signed.encode() != raw:
            raise SignatureRefused("cose", expected="its one encoding", got="another")
        return signed

    def encode(self) -> bytes:
        return _assembled(_protected(self.key), self.body, self.signature)

    def verify(self, raw_key: bytes) -> None:
        """Raises `SignatureRefused` unless the holder of this key signed this body."""
        if not hmac.compare_digest(self.key, key_id(raw_key)):
            raise SignatureRefused("key-id", expected=key_id(raw_key).hex(), got=self.key.hex())
        message = _to_be_signed(_protected(self.key), self.body)
        ed25519.verify(raw_key, self.signature, message, what=f"the receipt of {self.receipt.place}")


def _key_of(protected: bytes) -> bytes:
    """T10: the algorithm is this one. A header that names another, none, or anything besides, is refused."""
    try:
        header = cbor.decode(protected, _LIMITS)
    except cbor.CborRefused as refusal:
        raise SignatureRefused("protected", expected=refusal.expected, got=refusal.got) from None
    key = header.get(KEY_ID) if isinstance(header, dict) else None
    if not isinstance(key, bytes) or len(key) != len(key_id(b"")) or _protected(key) != protected:
        raise SignatureRefused("protected", expected="EdDSA, a key id of 32 bytes and the type", got="another header")
    return key

