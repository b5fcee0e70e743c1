"""The host's log of one cell's receipts: an append-only file that survives a kill at any byte.

    log = ReceiptLog.open(path, key)            # the cell's receipt key, out of its identity evidence
    log.append(signed); log.append(signed)
    log.checkpoint(note)                        # after a block: what the cell vouches for, on disk from now on
    log.inclusion(3), log.consistency(2)        # for anyone, against the newest checkpoint

The host is not trusted, so the cell's security does not depend on this log. With it an honest host can prove what it
was handed, and notices at once if a cell hands it something else. The file is a head and then records: length,
CRC-32C of the length, CRC-32C of the rest, the rest. What a kill or a loss of power left behind the last checkpoint,
which was never promised to anyone, is taken off when the log is opened; damage before it is refused, never repaired
(docs/spec/receipt.md T24 to T26). In memory are 32 bytes and a place in the file for each receipt.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Final, Self

import google_crc32c

from attestation.receipts.body import body_digest
from attestation.receipts.checkpoint import NOTE_BYTES_MAX, Checkpoint, SignedCheckpoint, origin_of
from attestation.receipts.errors import ReceiptRefused
from attestation.receipts.signed_receipt import SIGNED_BYTES_MAX, SignedReceipt, key_id
from foundation import cbor, merkle, private_files
from foundation.durability import sync_folder
from foundation.refusal import outline, shown

MAGIC: Final = b"anchorhold receipt log 1\n"
RECORD_BYTES_MAX: Final = max(SIGNED_BYTES_MAX, NOTE_BYTES_MAX) + 8
_RECEIPT, _NOTE = 0, 1
_HEAD_BYTES: Final = 12  # length and two checksums, four bytes each, big-endian
_LIMITS: Final = cbor.Limits(bytes_max=RECORD_BYTES_MAX, depth_max=1, items_max=4)


class LogRefused(ReceiptRefused):
    """The file, or what was to be added to it, is not this cell's one history."""

    stage = "receipt-log"


class ReceiptLog:
    """One receipt key's log. One process has it open at a time."""

    def __init__(self, descriptor: int, key: bytes) -> None:
        self._file: Final = descriptor
        self._key: Final = key
        self._end = 0
        self._tree: Final = merkle.Frontier()
        self._leaves: Final[list[bytes]] = []
        self._places: Final[list[tuple[int, int]]] = []  # of the receipts' records: offset and size
        self._notes: Final[list[bytes]] = []
        self._checkpoint: Checkpoint | None = None
        self._last: SignedReceipt | None = None

    # -- opening

    @classmethod
    def open(cls, path: Path, key: bytes, *, known: bytes | None = None) -> Self:
        """The log at `path`, begun if there is none. Raises `ReceiptRefused`, or `OSError`.

        `known` is a checkpoint seen before, kept anywhere else: a log that does not reach it was rolled back (T26).
        """
        descriptor = private_files.open_or_make(path)
        log = cls(descriptor, key)
        try:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise LogRefused("open", expected="one process at a time", got="a log that is locked") from None
            log._read()
            sync_folder(path.parent)
            if known is not None:
                log._check_reaches(SignedCheckpoint.parse(known).verify(key))
        except BaseException:
            os.close(descriptor)
            raise
        return log

    def close(self) -> None:
        os.close(self._file)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def _read(self) -> None:
        raw = _whole(self._file)
        head = MAGIC + key_id(self._key)
        if len(raw) < len(head) and head.startswith(raw):  # a kill while it was begun; nothing was in it yet
            os.ftruncate(self._file, 0)
            self._write(0, head)
            os.fsync(self._file)
            self._end = len(head)
            return
        if not raw.startswith(head):
            raise LogRefused("head", expected="a log of this key", got=shown(raw[: len(head)]))
        self._end = len(head)
        for record in self._records(raw):
            self._take(record)  # at self._end
            self._end += _HEAD_BYTES + len(record)
        if self._end < len(raw):
            os.ftruncate(self._file, self._end)
            os.fsync(self._file)

    def _records(self, raw: bytes) -> Iterator[bytes]:
        """Every whole record, up to where a write that was never finished begins (T25)."""
        at = self._end
        while at + _HEAD_BYTES <= len(raw):
            length, of_length, of_record = (raw[at + k : at + k + 4] for k in (0, 4, 8))
            end = at + _HEAD_BYTES + int.from_bytes(length, "big")
            sound = of_length == _checksum(length)
            if sound and end > len(raw):
                return
            record = raw[at + _HEAD_BYTES : end]
            if not sound or of_record != _checksum(record):
                self._refuse_damage(raw, at)
                return
            yield record
            at = end

    def _refuse_damage(self, raw: bytes, at: int) -> None:
        """Bytes that are no record: refused if anything a cell vouched for stands there or behind them."""
        if origin_of(self._key).encode() in raw[at:]:
            raise LogRefused("record", expected="a whole record", got=f"a damaged one at byte {at}")

    def _take(self, record: bytes) -> None:
        value = cbor.decode_or(LogRefused, "record", record, _LIMITS)
        match value:
            case [0, bytes(signed)]:
                self._enter(self._checked(signed), self._end, len(record))
            case [1, bytes(note)]:
                self._note(note)
            case _:
                raise LogRefused("record", expected="a receipt or a checkpoint", got=outline(value))

    # -- adding

    def append(self, signed: bytes) -> int:
        """Its index. In the file when this returns, and safe from a loss of power from the next checkpoint on.

        Raises `ReceiptRefused` for one that is not this cell's, or not the next.
        """
        checked, at = self._checked(signed), self._end
        record = cbor.encode([_RECEIPT, signed])
        self._add(record)
        self._enter(checked, at, len(record))
        return len(self._leaves) - 1

    def checkpoint(self, note: bytes) -> Checkpoint:
        """Keep a block's checkpoint, and everything before it, for good. Raises `ReceiptRefused`.

        A note over another tree than that of the receipts handed over is refused: the cell, or who carried it, lies.
        """
        self._agreed(note)
        self._add(cbor.encode([_NOTE, note]))
        os.fsync(self._file)
        return self._note(note)

    def _checked(self, raw: bytes) -> SignedReceipt:
        signed = SignedReceipt.parse(raw)
        signed.verify(self._key)
        receipt, before = signed.receipt, self._last
        if before is None:
            follows = receipt.index == 0
        elif receipt.index:
            follows = receipt.place == (
                before.receipt.height,
                before.receipt.index + 1,
            ) and receipt.previous == body_digest(before.body)
        else:
            follows = receipt.height == before.receipt.height + 1
        if before is not None:
            follows = follows and receipt.id == before.receipt.id + 1
        if not follows:
            raise LogRefused("order", expected="the receipt of the next request", got=f"that of {receipt.place}")
        return signed

    def _enter(self, signed: SignedReceipt, at: int, size: int) -> None:
        leaf = merkle.leaf(signed.body)
        self._tree.add(leaf)
        self._leaves.append(leaf)
        self._places.append((at + _HEAD_BYTES, size))
        self._last = signed

    def _agreed(self, note: bytes) -> Checkpoint:
        found = SignedCheckpoint.parse(note).verify(self._key)
        if (found.size, found.root) != (self._tree.size, self._tree.root):
            raise LogRefused(
                "checkpoint", expected=f"the tree of these {self._tree.size} receipts", got=f"another, of {found.size}"
            )
        return found

    def _note(self, note: bytes) -> Checkpoint:
        self._checkpoint = self._agreed(note)
        self._notes.append(note)
        return self._checkpoint

    def _add(self, record: bytes) -> None:
        """All of it, or the file as it was."""
        length = len(record).to_bytes(4, "big")
        framed = length + _checksum(length) + _checksum(record) + record
        try:
            self._write(self._end, framed)
        except BaseException:
            os.ftruncate(self._file, self._end)
            raise
        self._end += len(framed)

    def _write(self, at: int, raw: bytes) -> None:
        left = memoryview(raw)
        while left:
            written = os.pwrite(self._file, left, at)
            at, left = at + written, left[written:]

    # -- reading

    def __len__(self) -> int:
        """How many receipts there are."""
        return len(self._leaves)

    def receipt(self, index: int) -> bytes:
        """A signed receipt, out of the file."""
        at, size = self._places[index]
        match cbor.decode(os.pread(self._file, size, at), _LIMITS):
            case [0, bytes(signed)]:
                return signed
            case _:
                raise LogRefused(
                    "record", expected=f"the receipt at byte {at}", got=f"a record of {size} bytes of another form"
                )

    @property
    def signed(self) -> tuple[bytes, ...]:
        """Every signed receipt, in order."""
        return tuple(self.receipt(index) for index in range(len(self)))

    @property
    def notes(self) -> tuple[bytes, ...]:
        """Every checkpoint, in order."""
        return tuple(self._notes)

    @property
    def leaves(self) -> tuple[bytes, ...]:
        return tuple(self._leaves)

    def inclusion(self, index: int) -> tuple[bytes, ...]:
        """From the receipt at `index` up to the newest checkpoint."""
        return merkle.path(self._leaves[: self._newest().size], index)

    def consistency(self, size: int) -> tuple[bytes, ...]:
        """From an earlier checkpoint of this size to the newest."""
        return merkle.consistency(self._leaves[: self._newest().size], size)

    def _newest(self) -> Checkpoint:
        if self._checkpoint is None:
            raise LogRefused("checkpoint", expected="one at least", got="none")
        return self._checkpoint

    def _check_reaches(self, known: Checkpoint) -> None:
        if known.size > len(self._leaves):
            raise LogRefused("rolled-back", expected=f"at least {known.size} receipts", got=len(self._leaves))
        if merkle.root(self._leaves[: known.size]) != known.root:
            raise LogRefused(
                "rolled-back",
                expected=f"the {known.size} receipts that were seen",
                got=f"root {merkle.root(self._leaves[: known.size]).hex()} instead of {known.root.hex()}",
            )


def _checksum(record: bytes) -> bytes:
    return int(google_crc32c.value(record)).to_bytes(4, "big")


def _whole(descriptor: int) -> bytes:
    parts, at = [], 0
    while part := os.pread(descriptor, 1 << 20, at):
        parts.append(part)
        at += len(part)
    return b"".join(parts)
