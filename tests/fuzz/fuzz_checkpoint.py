"""Invariant: any bytes are a checkpoint's note or a fork that encodes back to them, or refused as `ReceiptRefused`;
under the seeds' key no note verifies but those it signed; and a fork convicts no key but those that did fork."""

from __future__ import annotations

from attestation.receipts.checkpoint import SignedCheckpoint, without_cosignatures
from attestation.receipts.errors import ReceiptRefused
from attestation.receipts.fork import ForkDocument, fork_of_logs, fork_of_receipts
from foundation import merkle
from tests.little_receipts import book, issue_blocks, ordered, plain, raw, receipt_key

KEY = raw(receipt_key("cell a"))


def _history(words: bytes, size: int) -> tuple[bytes, list[bytes], bytes]:
    of = book()
    request = ordered(1, 0, 0)
    issued = [of.issue(request, plain(request, words))]
    issued += issue_blocks(of, [size], from_height=2, first_id=1)
    return of.checkpoint(), [merkle.leaf(each.body) for each in issued], issued[0].signed


ONE, TWO, LONGER = _history(b"one", 2), _history(b"two", 2), _history(b"two", 5)
NOTES = [ONE[0], TWO[0], LONGER[0]]
_FORKS = [
    fork_of_logs(KEY, ONE[:2], TWO[:2]),
    fork_of_logs(KEY, ONE[:2], LONGER[:2]),
    fork_of_receipts(KEY, ONE[2], TWO[2]),
]
FORKS = [fork.encode() for fork in _FORKS if fork is not None]
SEEDS: list[bytes] = [*NOTES, *FORKS, NOTES[0] + "\u2014 witness.example/w PlsIxA==\n".encode(), b""]


def one_input(data: bytes) -> None:
    for note in (data, _stripped(data)):
        try:
            signed = SignedCheckpoint.parse(note)
        except ReceiptRefused:
            continue
        if signed.encode() != note:
            raise AssertionError("a second spelling of a note")
        try:
            signed.verify(KEY)
        except ReceiptRefused:
            continue
        if note not in NOTES:
            raise AssertionError("a forged checkpoint was believed")
    _convict(data)


def _stripped(data: bytes) -> bytes:
    try:
        return without_cosignatures(data)
    except ReceiptRefused:
        return b""


def _convict(data: bytes) -> None:
    try:
        fork = ForkDocument.parse(data)
        if fork.encode() != data:
            raise AssertionError("a second encoding of a fork")
        fork.check()
    except ReceiptRefused:
        return
    if data not in FORKS:
        raise AssertionError("a fork that nobody made")
