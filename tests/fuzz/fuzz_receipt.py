"""Invariant: any bytes are a receipt's body, a signed receipt or an opening that encodes back to them, or refused as
`ReceiptRefused`; and under the seeds' key nothing verifies but what that key signed."""

from __future__ import annotations

from attestation.consensus.blocks import Kind
from attestation.receipts.body import Receipt
from attestation.receipts.errors import ReceiptRefused
from attestation.receipts.outcome import Finish, Opening, Outcome
from attestation.receipts.signed_receipt import SignedReceipt
from tests.little_receipts import book, ordered, plain, raw, receipt_key, refused, sealed

KEY = raw(receipt_key("cell a"))
_PLAIN, _SEALED = ordered(1, 0, 0), ordered(1, 0, 0, Kind.SEALED)
ISSUED = [
    book().issue(request, said)
    for request, said in ((_PLAIN, plain(_PLAIN)), (_SEALED, sealed(_SEALED)), (_PLAIN, refused(_PLAIN)))
]
OPENING = Opening(b"\x5a" * 32, Outcome(Finish.STOP, 1, 2, b"\x01" * 32, b"\x02" * 32)).encode()
SEEDS: list[bytes] = [*[each.signed for each in ISSUED], *[each.body for each in ISSUED], OPENING, b""]


def one_input(data: bytes) -> None:
    for kind in (Receipt.parse, SignedReceipt.parse, Opening.parse):
        try:
            value = kind(data)
        except ReceiptRefused:
            continue
        if value.encode() != data:
            raise AssertionError(f"{kind.__qualname__} accepted a second encoding")
        if isinstance(value, SignedReceipt):
            _believe(value, data)


def _believe(signed: SignedReceipt, data: bytes) -> None:
    try:
        signed.verify(KEY)
    except ReceiptRefused:
        return
    if data not in [each.signed for each in ISSUED]:
        raise AssertionError("a forged receipt was believed")
