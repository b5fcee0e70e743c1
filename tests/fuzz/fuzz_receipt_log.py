"""Invariant: any bytes behind a log's head are opened, with a beginning of the receipts the seeds' cell signed, or
refused as `ReceiptRefused` with the file as it was; and what was opened opens again with the same receipts."""

from __future__ import annotations

import tempfile
from pathlib import Path

from anchorhold.host.receipt_log import MAGIC, ReceiptLog
from attestation.receipts.errors import ReceiptRefused
from attestation.receipts.signed_receipt import key_id
from tests.little_receipts import book, issue_blocks, raw, receipt_key

KEY = raw(receipt_key("cell a"))
HEAD = MAGIC + key_id(KEY)
_FOLDER = tempfile.TemporaryDirectory(prefix="fuzz-receipt-log-")
PATH = Path(_FOLDER.name) / "log"


def _written() -> tuple[bytes, tuple[bytes, ...]]:
    of = book()
    with ReceiptLog.open(PATH, KEY) as log:
        for height in (1, 2):
            for one in issue_blocks(of, [2], from_height=height, first_id=2 * height - 2):
                log.append(one.signed)
            log.checkpoint(of.checkpoint())
        signed = log.signed
    return PATH.read_bytes(), signed


WHOLE, SIGNED = _written()
BEHIND = WHOLE[len(HEAD) :]
SEEDS: list[bytes] = [BEHIND, BEHIND[:-1], BEHIND[:700], b"", bytes(64)]


def one_input(data: bytes) -> None:
    PATH.write_bytes(HEAD + data)
    try:
        with ReceiptLog.open(PATH, KEY) as log:
            found = log.signed
    except ReceiptRefused:
        if PATH.read_bytes() != HEAD + data:
            raise AssertionError("a refused log was changed") from None
        return
    if found != SIGNED[: len(found)]:
        raise AssertionError("a receipt that nobody signed")
    with ReceiptLog.open(PATH, KEY) as log:
        if log.signed != found:
            raise AssertionError("a log that opens otherwise the second time")
