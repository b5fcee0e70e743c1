"""encoding.md C12, C13: one COSE_Sign1 for packs and receipts: one encoding, no free byte, sound keys alone."""

from __future__ import annotations

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from hypothesis import given
from hypothesis import strategies as st

from foundation import cbor
from foundation.cose import CoseRefused, Sign1

SIGNER = Ed25519PrivateKey.from_private_bytes(b"\x11" * 32)
KEY = SIGNER.public_key().public_bytes_raw()
TYPE = "application/of-a-test+cbor"
SIGNED = Sign1.sign(b"a payload", SIGNER, key_id=KEY, content_type=TYPE, context=b"of a test")
RAW = SIGNED.encode()
PROTECTED = cbor.encode({1: -8, 4: KEY, 16: TYPE})


def parse(raw: bytes) -> Sign1:
    return Sign1.parse(raw, bytes_max=1024, content_type=TYPE, context=b"of a test")


def envelope(*parts: object, tag: int = 18) -> bytes:
    return cbor.encode(cbor.Tag(tag, list(parts)))  # type: ignore[arg-type]


def test_it_reads_back_and_holds_as_the_standard_says() -> None:
    assert parse(RAW) == SIGNED
    assert parse(RAW).is_signed_by(KEY)
    message = cbor.encode(["Signature1", PROTECTED, b"of a test", b"a payload"])
    Ed25519PublicKey.from_public_bytes(KEY).verify(SIGNED.signature, message)


@given(st.data())
def test_no_byte_of_it_is_free(data: st.DataObject) -> None:
    bent = bytearray(RAW)
    bent[data.draw(st.integers(0, len(bent) - 1))] ^= data.draw(st.integers(1, 255))
    try:
        read = parse(bytes(bent))
    except CoseRefused:
        return
    assert read.encode() == bytes(bent)
    assert not read.is_signed_by(KEY)


@given(payload=st.binary(max_size=64), context=st.binary(max_size=8), named=st.none() | st.text(max_size=8))
def test_whatever_is_signed_comes_back(payload: bytes, context: bytes, named: str | None) -> None:
    raw = Sign1.sign(payload, SIGNER, key_id=KEY, content_type=named, context=context).encode()
    read = Sign1.parse(raw, bytes_max=1024, content_type=named, context=context)
    assert read.payload == payload
    assert read.is_signed_by(KEY)


def test_another_context_key_or_type_does_not_fit() -> None:
    assert not Sign1.parse(RAW, bytes_max=1024, content_type=TYPE).is_signed_by(KEY)
    assert not SIGNED.is_signed_by(Ed25519PrivateKey.generate().public_key().public_bytes_raw())
    for other in (None, "text/plain"):
        with pytest.raises(CoseRefused) as refused:
            Sign1.parse(RAW, bytes_max=1024, content_type=other)
        assert refused.value.code == "protected"


def test_a_key_of_small_order_signs_nothing() -> None:
    neutral = (1).to_bytes(32, "little")
    assert not Sign1(neutral, b"anything", neutral + bytes(32)).is_signed_by(neutral)


@pytest.mark.parametrize(
    ("code", "raw"),
    [
        ("encoding", b""),
        ("encoding", RAW + b"\0"),
        ("encoding", RAW[1:-1]),
        ("encoding", bytes(2000)),
        ("encoding", envelope(PROTECTED, {}, b"x" * 1024, bytes(64))),
        ("envelope", RAW[1:]),
        ("envelope", envelope(PROTECTED, {1: -8}, b"", bytes(64))),
        ("envelope", envelope(PROTECTED, {}, None, bytes(64))),
        ("envelope", envelope(PROTECTED, {}, b"", bytes(63))),
        ("envelope", envelope(PROTECTED, {}, b"", bytes(65))),
        ("envelope", envelope(PROTECTED, [], b"", bytes(64))),
        ("envelope", envelope({}, {}, b"", bytes(64))),
        ("envelope", envelope(PROTECTED, {}, b"")),
        ("protected", envelope(b"\xff", {}, b"", bytes(64))),
        ("protected", envelope(cbor.encode([]), {}, b"", bytes(64))),
        ("protected", envelope(cbor.encode({1: -8, 4: KEY[:31], 16: TYPE}), {}, b"", bytes(64))),
        ("protected", envelope(cbor.encode({1: -7, 4: KEY, 16: TYPE}), {}, b"", bytes(64))),
        ("protected", envelope(cbor.encode({1: -8, 3: 0, 4: KEY, 16: TYPE}), {}, b"", bytes(64))),
    ],
)
def test_another_form_is_refused_by_its_part(code: str, raw: bytes) -> None:
    with pytest.raises(CoseRefused) as refused:
        parse(raw)
    assert refused.value.code == code


def test_another_tag_is_refused() -> None:
    with pytest.raises(CoseRefused):
        parse(envelope(PROTECTED, {}, b"", bytes(64), tag=98))
