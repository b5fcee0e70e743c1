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
from typing import Final, Self

from attestation.receipts.body import BODY_BYTES_MAX, Receipt
from attestation.receipts.errors import ReceiptSignatureRefused
from foundation import ed25519
from foundation.cose import CoseRefused, Sign1
from foundation.digests import tagged_sha256
from foundation.ed25519 import Signer

RECEIPT_TYPE: Final = "application/anchorhold-receipt+cbor"
KEY_TAG: Final = "anchorhold/receipt/key/v1"
SIGNED_BYTES_MAX: Final = BODY_BYTES_MAX + 256


def key_id(raw_key: bytes) -> bytes:
    """The name of a receipt key: what a signed receipt and its log's origin carry."""
    return tagged_sha256(KEY_TAG, raw_key)


def sign(body: bytes, signer: Signer, raw_key: bytes) -> bytes:
    """The signed receipt. `raw_key` is the public half of `signer`."""
    return Sign1.sign(body, signer, key_id=key_id(raw_key), content_type=RECEIPT_TYPE).encode()


def check_key(raw_key: bytes) -> None:
    """T11. Raises `ReceiptSignatureRefused` for a key that two verifiers could judge differently."""
    if (expected := ed25519.expected_instead(raw_key)) is not None:
        raise ReceiptSignatureRefused("key", expected=expected, got=raw_key.hex())


@dataclass(frozen=True, slots=True)
class SignedReceipt:
    """A body and a signature that should be over it. Parsed, not believed: `verify` checks it."""

    receipt: Receipt
    envelope: Sign1

    @property
    def body(self) -> bytes:
        return self.envelope.payload

    @property
    def key(self) -> bytes:
        return self.envelope.key_id

    @property
    def signature(self) -> bytes:
        return self.envelope.signature

    @classmethod
    def parse(cls, raw: bytes) -> Self:
        """Raises `ReceiptRefused`, nothing else."""
        try:
            envelope = Sign1.parse(raw, bytes_max=SIGNED_BYTES_MAX, content_type=RECEIPT_TYPE)
        except CoseRefused as refusal:
            code = "protected" if refusal.code == "protected" else "cose"
            raise ReceiptSignatureRefused(code, expected=refusal.expected, got=refusal.got) from None
        return cls(Receipt.parse(envelope.payload), envelope)

    @classmethod
    def of(cls, body: bytes, signature: bytes, raw_key: bytes) -> Self:
        """From its parts, as a gateway keeps them. Raises `ReceiptRefused`, nothing else."""
        return cls(Receipt.parse(body), Sign1(key_id(raw_key), body, signature, RECEIPT_TYPE))

    def encode(self) -> bytes:
        return self.envelope.encode()

    def verify(self, raw_key: bytes) -> None:
        """Raises `ReceiptSignatureRefused` unless the holder of this key signed this body."""
        if not hmac.compare_digest(self.key, key_id(raw_key)):
            raise ReceiptSignatureRefused("key-id", expected=key_id(raw_key).hex(), got=self.key.hex())
        check_key(raw_key)
        if not self.envelope.is_signed_by(raw_key):
            expected = f"the receipt of {self.receipt.place} signed by {raw_key.hex()}"
            raise ReceiptSignatureRefused("signature", expected=expected, got="a signature that does not verify")
