"""COSE_Sign1 (RFC 9052) in deterministic CBOR under Ed25519: one encoding of each signed payload.

    18([protected, {}, payload, signature])
    protected = {1: -8 (EdDSA), 4: key id, ?16: content type}

The signature covers the payload, the protected header and a context that does not travel (RFC 9052 section 4.4). The
unprotected header is empty, so no byte is free. A `Sign1` is parsed, not believed: `is_signed_by` checks it. What a
payload says, and whose key it is, is for whoever calls.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final, Self

from foundation import cbor, ed25519
from foundation.ed25519 import Signer
from foundation.refusal import Refused, shape

KEY_ID_BYTES: Final = 32
_SIGN1: Final = 18
_ALGORITHM, _KEY_ID, _CONTENT_TYPE = 1, 4, 16  # labels of headers (RFC 9052; RFC 9596)
_EDDSA: Final = -8


class CoseRefused(Refused):
    """An envelope of another form. The code says which part: `encoding`, `envelope` or `protected`."""

    stage = "cose"


@dataclass(frozen=True, slots=True)
class Sign1:
    """A payload and a signature that should be over it."""

    key_id: bytes
    payload: bytes = field(repr=False)
    signature: bytes = field(repr=False)
    content_type: str | None = None
    context: bytes = b""

    @classmethod
    def sign(
        cls, payload: bytes, signer: Signer, *, key_id: bytes, content_type: str | None = None, context: bytes = b""
    ) -> Self:
        unsigned = cls(key_id, payload, b"", content_type, context)
        return cls(key_id, payload, signer.sign(unsigned._to_be_signed()), content_type, context)

    @classmethod
    def parse(cls, raw: bytes, *, bytes_max: int, content_type: str | None = None, context: bytes = b"") -> Self:
        """Raises `CoseRefused` alone. Whatever parses is encoded as `raw` again."""
        limits = cbor.Limits(bytes_max=bytes_max, depth_max=3, items_max=8)
        value = cbor.decode_or(CoseRefused, "encoding", raw, limits, tags=frozenset({_SIGN1}))
        match value:
            case cbor.Tag(18, [bytes(protected), dict() as unprotected, bytes(payload), bytes(signature)]) if (
                not unprotected and len(signature) == ed25519.SIGNATURE_BYTES
            ):
                key_id = _key_id_of(protected, limits)
            case _:
                expected = f"18([protected, {{}}, payload, {ed25519.SIGNATURE_BYTES} bytes])"
                raise CoseRefused("envelope", expected=expected, got=_shape(value))
        sign1 = cls(key_id, payload, signature, content_type, context)
        if sign1._protected() != protected:
            named = "a key id" if content_type is None else f"a key id and {content_type}"
            raise CoseRefused("protected", expected=f"EdDSA, {named}", got=shape(protected))
        return sign1

    def encode(self) -> bytes:
        return cbor.encode(cbor.Tag(_SIGN1, [self._protected(), {}, self.payload, self.signature]))

    def is_signed_by(self, raw_key: bytes) -> bool:
        """Whether the holder of this key signed this payload under this header and context."""
        return ed25519.holds(raw_key, self.signature, self._to_be_signed())

    def _protected(self) -> bytes:
        header: dict[cbor.Key, cbor.Encodable] = {_ALGORITHM: _EDDSA, _KEY_ID: self.key_id}
        if self.content_type is not None:
            header[_CONTENT_TYPE] = self.content_type
        return cbor.encode(header)

    def _to_be_signed(self) -> bytes:
        # It begins with an array's head and a text, so no note and no other statement of ours reads the same.
        return cbor.encode(["Signature1", self._protected(), self.context, self.payload])


def _shape(value: object) -> str:
    if isinstance(value, cbor.Tag) and isinstance(value.value, list):
        return f"{value.number}([{', '.join(map(shape, value.value))}])"
    return shape(value)


def _key_id_of(protected: bytes, limits: cbor.Limits) -> bytes:
    header = cbor.decode_or(CoseRefused, "protected", protected, limits)
    key_id = header.get(_KEY_ID) if isinstance(header, dict) else None
    if not isinstance(key_id, bytes) or len(key_id) != KEY_ID_BYTES:
        raise CoseRefused("protected", expected=f"a key id of {KEY_ID_BYTES} bytes", got=shape(key_id))
    return key_id
