"""receipt.md T18 to T22: a cell's word on its log, in the form the world's logs use."""

from __future__ import annotations

import base64
import itertools
from hashlib import sha256

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from hypothesis import given
from hypothesis import strategies as st

from attestation.receipts.checkpoint import Checkpoint, SignedCheckpoint, origin_of, without_cosignatures
from attestation.receipts.errors import ReceiptRefused
from attestation.receipts.signed_receipt import key_id
from foundation import merkle
from tests.little_receipts import book, issue_blocks, raw, receipt_key

KEY = raw(receipt_key("cell a"))
BOOK = book()
BODIES = [one.body for one in issue_blocks(BOOK, [3, 2])]
NOTE = BOOK.checkpoint()


def test_the_note_line_by_line() -> None:  # receipt.md T18 to T20
    root = merkle.root([merkle.leaf(body) for body in BODIES])
    text, signatures = NOTE.decode().split("\n\n")
    origin = f"anchorhold/receipts/{key_id(KEY).hex()}"
    assert text.split("\n") == [origin, "5", base64.b64encode(root).decode()]
    dash, name, encoded = signatures.removesuffix("\n").split(" ")
    assert (dash, name) == ("\u2014", origin)
    value = base64.b64decode(encoded)
    assert value[:4] == sha256(origin.encode() + b"\n\x01" + KEY).digest()[:4]
    Ed25519PublicKey.from_public_bytes(KEY).verify(value[4:], (text + "\n").encode())


def test_it_reads_back_and_holds_for_its_own_key_alone() -> None:  # receipt.md T19, T20
    signed = SignedCheckpoint.parse(NOTE)
    assert signed.encode() == NOTE
    assert signed.verify(KEY).size == 5
    with pytest.raises(ReceiptRefused, match="origin"):
        signed.verify(raw(receipt_key("cell b")))


@given(st.data())
def test_no_byte_of_it_is_free(data: st.DataObject) -> None:  # receipt.md T20
    bent = bytearray(NOTE)
    bent[data.draw(st.integers(0, len(bent) - 1))] ^= data.draw(st.integers(1, 255))
    with pytest.raises(ReceiptRefused):
        SignedCheckpoint.parse(bytes(bent)).verify(KEY)


@pytest.mark.parametrize(
    "note",
    [
        b"",
        b"\n\n\n",
        NOTE + b"\n",
        NOTE[:-1],
        NOTE + NOTE,
        NOTE.replace(b"\n5\n", b"\n05\n"),
        NOTE.replace(b"\n5\n", b"\n+5\n"),
        NOTE.replace(b"\n\n", b"\nan extension\n\n"),
        b"\xff",
        NOTE.replace(b"=", b""),
        NOTE.replace(b"\n5\n", b"\n9223372036854775808\n"),
        NOTE.replace(b"\n5\n", "\n\u0665\n".encode()),
        NOTE.replace(b"\n", b"\r\n"),
        b"x" * 2000,
        NOTE.replace(b"\n5\n", b"\n0\n"),
    ],
)
def test_other_notes_are_refused(note: bytes) -> None:  # receipt.md T20
    with pytest.raises(ReceiptRefused):
        SignedCheckpoint.parse(note).verify(KEY)


def test_an_empty_log_has_the_root_of_the_empty_tree() -> None:  # receipt.md T20
    assert SignedCheckpoint.parse(book().checkpoint()).verify(KEY).root == merkle.root(())
    with pytest.raises(ReceiptRefused, match="root"):
        Checkpoint(origin_of(KEY), 0, bytes(32))


def test_what_witnesses_add_is_taken_off_first() -> None:  # receipt.md T21
    cosigned = NOTE + "\u2014 witness.example/w PlsIxA==\n".encode()
    with pytest.raises(ReceiptRefused):
        SignedCheckpoint.parse(cosigned)
    assert without_cosignatures(cosigned) == NOTE
    assert without_cosignatures(NOTE) == NOTE
    for other in (b"", b"text alone", NOTE * 40, NOTE + b"x\n" * 40):
        with pytest.raises(ReceiptRefused):
            without_cosignatures(other)


def test_a_checkpoint_after_each_block_only_grows() -> None:  # receipt.md T22, T23
    of = book()
    notes, bodies, number = [], [], 0
    for height, size in enumerate([2, 1, 3], 1):
        bodies += [one.body for one in issue_blocks(of, [size], from_height=height, first_id=number)]
        number += size
        notes.append(SignedCheckpoint.parse(of.checkpoint()).verify(KEY))
    leaves = [merkle.leaf(body) for body in bodies]
    for old, new in itertools.pairwise(notes):
        proof = merkle.consistency(leaves[: new.size], old.size)
        assert merkle.is_consistent(old.root, old.size, new.root, new.size, proof=proof)
