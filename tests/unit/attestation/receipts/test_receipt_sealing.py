"""receipt.md T9 to T11: a signature over a body, without a free byte and without a free key."""

from __future__ import annotations

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from hypothesis import given
from hypothesis import strategies as st

from attestation.receipts.errors import ReceiptRefused, ReceiptSignatureRefused
from attestation.receipts.signed_receipt import RECEIPT_TYPE, SignedReceipt, check_key, key_id, sign
from foundation import cbor, ed25519
from tests.little_receipts import book, issue_blocks, raw, receipt_key

KEY = raw(receipt_key("cell a"))
ISSUED = issue_blocks(book(), [1])[0]
ORDER = 2**252 + 27742317777372353535851937790883648493
P = 2**255 - 19
ONE_OF_ORDER_EIGHT = "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05"
SMALL = [
    (1).to_bytes(32, "little"),
    (P - 1).to_bytes(32, "little"),
    bytes(32),
    bytes(31) + b"\x80",
    bytes.fromhex(ONE_OF_ORDER_EIGHT),
    bytes.fromhex(ONE_OF_ORDER_EIGHT[:-2] + "85"),
]


def cose(protected: object, unprotected: object, body: object, signature: object, tag: int = 18) -> bytes:
    return cbor.encode(cbor.Tag(tag, [protected, unprotected, body, signature]))  # type: ignore[list-item]


def test_a_signed_receipt_reads_back_and_holds() -> None:  # receipt.md T9
    signed = SignedReceipt.parse(ISSUED.signed)
    assert (signed.receipt, signed.body, signed.encode()) == (ISSUED.receipt, ISSUED.body, ISSUED.signed)
    signed.verify(KEY)


def test_anyone_with_the_standard_can_check_it() -> None:  # receipt.md T9, T10
    match cbor.decode(ISSUED.signed, tags=frozenset({18})):
        case cbor.Tag(18, [bytes(protected), {}, bytes(body), bytes(signature)]):
            assert cbor.decode(protected) == {1: -8, 4: key_id(KEY), 16: RECEIPT_TYPE}
            message = cbor.encode(["Signature1", protected, b"", body])
            Ed25519PublicKey.from_public_bytes(KEY).verify(signature, message)
        case other:
            pytest.fail(f"{other}")


@given(st.data())
def test_no_byte_of_it_is_free(data: st.DataObject) -> None:  # receipt.md T9
    bent = bytearray(ISSUED.signed)
    bent[data.draw(st.integers(0, len(bent) - 1))] ^= data.draw(st.integers(1, 255))
    with pytest.raises(ReceiptRefused):
        SignedReceipt.parse(bytes(bent)).verify(KEY)


def test_another_cell_s_key_does_not_fit() -> None:  # receipt.md T9
    with pytest.raises(ReceiptSignatureRefused, match="key-id"):
        SignedReceipt.parse(ISSUED.signed).verify(raw(receipt_key("cell b")))


@pytest.mark.parametrize(
    "header",
    [
        {1: -19, 4: key_id(KEY), 16: RECEIPT_TYPE},
        {1: -7, 4: key_id(KEY), 16: RECEIPT_TYPE},
        {4: key_id(KEY), 16: RECEIPT_TYPE},
        {1: -8, 16: RECEIPT_TYPE},
        {1: -8, 4: key_id(KEY)[:8], 16: RECEIPT_TYPE},
        {1: -8, 4: key_id(KEY)},
        {1: -8, 4: key_id(KEY), 16: "text/plain"},
        {},
        {1: -8, 3: 0, 4: key_id(KEY), 16: RECEIPT_TYPE},
        {1: "EdDSA", 4: key_id(KEY), 16: RECEIPT_TYPE},
    ],
    ids=str,
)
def test_another_header_is_refused_however_well_it_is_signed(header: dict[int, object]) -> None:  # receipt.md T10
    protected = cbor.encode(header)  # type: ignore[arg-type]
    signature = receipt_key("cell a").sign(cbor.encode(["Signature1", protected, b"", ISSUED.body]))
    with pytest.raises(ReceiptSignatureRefused, match="protected"):
        SignedReceipt.parse(cose(protected, {}, ISSUED.body, signature))


PROTECTED = cbor.encode({1: -8, 4: key_id(KEY), 16: RECEIPT_TYPE})


@pytest.mark.parametrize(
    "raw_bytes",
    [
        b"",
        b"\xd2\x80",
        cose(PROTECTED, {1: -8}, ISSUED.body, bytes(64)),
        cose(PROTECTED, {}, None, bytes(64)),
        cose(PROTECTED, {}, ISSUED.body, bytes(63)),
        cose(PROTECTED, {}, ISSUED.body, bytes(64), tag=98),
        cose({}, {}, ISSUED.body, bytes(64)),
        cose(PROTECTED, {}, b"\x80", bytes(64)),
        ISSUED.signed + b"\0",
        cose(b"\xff", {}, ISSUED.body, bytes(64)),
        ISSUED.signed[1:],
    ],
)
def test_other_bytes_are_refused(raw_bytes: bytes) -> None:  # receipt.md T9, T10
    with pytest.raises(ReceiptRefused):
        SignedReceipt.parse(raw_bytes)


# -- keys


def test_an_honest_key_is_a_key() -> None:  # receipt.md T11
    check_key(KEY)
    assert ed25519.expected_instead(KEY) is None


@pytest.mark.parametrize("small", SMALL, ids=bytes.hex)
def test_a_key_of_small_order_is_refused(small: bytes) -> None:  # receipt.md T11
    with pytest.raises(ReceiptSignatureRefused, match="key"):
        check_key(small)


def test_the_key_of_small_order_would_have_verified_what_nobody_signed() -> None:  # receipt.md T11
    neutral = SMALL[0]
    Ed25519PublicKey.from_public_bytes(neutral).verify(neutral + bytes(32), b"anything at all")
    assert not ed25519.holds(neutral, neutral + bytes(32), b"anything at all")


def test_a_key_with_a_part_of_small_order_is_refused() -> None:  # receipt.md T11
    point, torsion = ed25519._decompressed(KEY), ed25519._decompressed(bytes.fromhex(ONE_OF_ORDER_EIGHT))
    assert point is not None
    assert torsion is not None
    x, y, z, _ = ed25519._sum(point, torsion)
    x, y = x * pow(z, -1, P) % P, y * pow(z, -1, P) % P
    mixed = (y | (x & 1) << 255).to_bytes(32, "little")
    Ed25519PublicKey.from_public_bytes(mixed)  # the library takes it
    with pytest.raises(ReceiptSignatureRefused, match="prime order"):
        check_key(mixed)


@pytest.mark.parametrize(
    "encoding",
    [
        (P + 3).to_bytes(32, "little"),
        (2**255 - 1).to_bytes(32, "little"),
        (P + 1).to_bytes(32, "little"),
        (1 | 1 << 255).to_bytes(32, "little"),
        (2).to_bytes(32, "little"),
        b"",
        KEY[:-1],
        KEY + b"\0",
    ],
    ids=bytes.hex,
)
def test_what_is_not_the_one_encoding_of_a_point_is_refused(encoding: bytes) -> None:  # receipt.md T11
    with pytest.raises(ReceiptSignatureRefused, match="key"):
        check_key(encoding)


def test_a_signature_s_number_is_reduced() -> None:  # receipt.md T11
    signature = receipt_key("cell a").sign(b"m")
    number = int.from_bytes(signature[32:], "little") + ORDER
    assert ed25519.holds(KEY, signature, b"m")
    assert not ed25519.holds(KEY, signature[:32] + number.to_bytes(32, "little"), b"m")


@given(st.binary(min_size=32, max_size=32))
def test_keys_of_seeds_all_pass(seed: bytes) -> None:  # receipt.md T11
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    check_key(raw(Ed25519PrivateKey.from_private_bytes(seed)))


def test_signing_is_deterministic() -> None:  # receipt.md T9
    assert sign(ISSUED.body, receipt_key("cell a"), KEY) == ISSUED.signed
