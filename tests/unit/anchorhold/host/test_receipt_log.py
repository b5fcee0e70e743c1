"""receipt.md T24 to T26: the host's log, killed at every byte, damaged, rolled back, and lied to."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from anchorhold.host.receipt_log import LogRefused, ReceiptLog
from attestation.receipts.checkpoint import SignedCheckpoint
from attestation.receipts.errors import ReceiptRefused
from foundation import merkle
from tests.little_receipts import book, issue_blocks, ordered, plain, raw, receipt_key
from tests.switches import EVERY_BYTE, flag

KEY = raw(receipt_key("cell a"))
SIZES = [2, 1, 3]


def written(path: Path, sizes: list[int] | None = None) -> list[bytes]:
    """Blocks of these sizes and a checkpoint after each; the notes."""
    of, number, notes = book(), 0, []
    with ReceiptLog.open(path, KEY) as log:
        for height, size in enumerate(sizes or SIZES, 1):
            for one in issue_blocks(of, [size], from_height=height, first_id=number):
                log.append(one.signed)
            number += size
            notes.append(of.checkpoint())
            log.checkpoint(notes[-1])
    return notes


def test_what_was_added_is_there_again(tmp_path: Path) -> None:  # receipt.md T24
    notes = written(tmp_path / "log")
    with ReceiptLog.open(tmp_path / "log", KEY) as log:
        assert (len(log.signed), log.notes) == (6, tuple(notes))
        newest = SignedCheckpoint.parse(notes[-1]).checkpoint
        for index, leaf in enumerate(log.leaves):
            assert merkle.root_of(leaf, index, newest.size, log.inclusion(index)) == newest.root
        first = SignedCheckpoint.parse(notes[0]).checkpoint
        assert merkle.is_consistent(first.root, first.size, newest.root, newest.size, proof=log.consistency(first.size))


def test_killed_at_any_byte_it_opens_with_whole_records_and_goes_on(tmp_path: Path) -> None:  # receipt.md T25
    written(tmp_path / "whole")
    whole = (tmp_path / "whole").read_bytes()
    path = tmp_path / "cut"
    with ReceiptLog.open(tmp_path / "whole", KEY) as log:
        everything = log.signed
    for size in range(0, len(whole) + 1, 1 if flag(EVERY_BYTE) else 7):
        path.write_bytes(whole[:size])
        with ReceiptLog.open(path, KEY) as log:
            kept = log.signed
            assert kept == everything[: len(kept)]
            if len(kept) < 6:
                log.append(everything[len(kept)])
                assert log.signed == everything[: len(kept) + 1]
        with ReceiptLog.open(path, KEY) as log:
            assert log.signed[: len(kept)] == kept


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_damage_is_refused_or_was_never_promised(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    # receipt.md T25
    path = tmp_path_factory.mktemp("log") / "log"
    written(path, [1, 1])
    whole = bytearray(path.read_bytes())
    whole[data.draw(st.integers(0, len(whole) - 1))] ^= data.draw(st.integers(1, 255))
    path.write_bytes(bytes(whole))
    with pytest.raises(ReceiptRefused), ReceiptLog.open(path, KEY):
        pass
    assert path.read_bytes() == bytes(whole)


def test_what_a_loss_of_power_left_behind_the_last_checkpoint_is_taken_off(tmp_path: Path) -> None:  # receipt.md T25
    path = tmp_path / "log"
    written(path)
    sound = path.read_bytes()
    for behind in (bytes(4096), os.urandom(100), b"\0\0\0\x10"):
        path.write_bytes(sound + behind)
        with ReceiptLog.open(path, KEY) as log:
            assert len(log.signed) == 6
        assert path.read_bytes() == sound


def test_a_log_that_was_rolled_back_is_noticed(tmp_path: Path) -> None:  # receipt.md T26
    notes = written(tmp_path / "log")
    rolled = tmp_path / "rolled"
    written(rolled, [2, 1])
    with pytest.raises(LogRefused, match="rolled-back"), ReceiptLog.open(rolled, KEY, known=notes[-1]):
        pass
    with ReceiptLog.open(rolled, KEY, known=notes[1]) as log:
        assert len(log.signed) == 3


def test_a_log_with_another_past_is_noticed(tmp_path: Path) -> None:  # receipt.md T26
    other = book()
    request = ordered(1, 0, 0)
    other.issue(request, plain(request, b"another answer"))
    written(tmp_path / "log")
    with (
        pytest.raises(LogRefused, match="rolled-back"),
        ReceiptLog.open(tmp_path / "log", KEY, known=other.checkpoint()),
    ):
        pass


def test_only_the_next_receipt_of_this_cell_is_taken(tmp_path: Path) -> None:  # receipt.md T24
    issued = issue_blocks(book(), SIZES)
    stranger = issue_blocks(book("cell b"), [1])[0]
    with ReceiptLog.open(tmp_path / "log", KEY) as log:
        for wrong in (issued[1], stranger, issued[4]):
            with pytest.raises(ReceiptRefused):
                log.append(wrong.signed)
        log.append(issued[0].signed)
        for wrong in (issued[0], issued[2], issued[5]):
            with pytest.raises(ReceiptRefused):
                log.append(wrong.signed)
        log.append(issued[1].signed)
    with ReceiptLog.open(tmp_path / "log", KEY) as log:
        assert len(log.signed) == 2


def test_a_checkpoint_over_other_receipts_is_refused(tmp_path: Path) -> None:  # receipt.md T24
    of = book()
    issued = issue_blocks(of, [2])
    with ReceiptLog.open(tmp_path / "log", KEY) as log:
        log.append(issued[0].signed)
        with pytest.raises(LogRefused, match="checkpoint"):
            log.checkpoint(of.checkpoint())
        with pytest.raises(LogRefused, match="one at least"):
            log.inclusion(0)


def test_one_process_at_a_time_and_one_key(tmp_path: Path) -> None:  # receipt.md T24
    with ReceiptLog.open(tmp_path / "log", KEY), pytest.raises(LogRefused, match="a log that is locked"):
        ReceiptLog.open(tmp_path / "log", KEY)
    with pytest.raises(LogRefused, match="head"):
        ReceiptLog.open(tmp_path / "log", raw(receipt_key("cell b")))
    (tmp_path / "foreign").write_bytes(b"something else entirely")
    with pytest.raises(LogRefused, match="head"):
        ReceiptLog.open(tmp_path / "foreign", KEY)
    assert (tmp_path / "foreign").read_bytes() == b"something else entirely"


def test_a_disk_that_is_full_leaves_the_log_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # receipt.md T25
    issued = issue_blocks(book(), [2])
    with ReceiptLog.open(tmp_path / "log", KEY) as log:
        log.append(issued[0].signed)
        before = (tmp_path / "log").read_bytes()
        real, calls = os.pwrite, []

        def full(descriptor: int, part: bytes, at: int) -> int:
            calls.append(at)
            if len(calls) > 1:
                raise OSError(28, "No space left on device")
            return real(descriptor, bytes(part[:100]), at)

        monkeypatch.setattr(os, "pwrite", full)
        with pytest.raises(OSError, match="space"):
            log.append(issued[1].signed)
        monkeypatch.undo()
        assert (tmp_path / "log").read_bytes() == before
        log.append(issued[1].signed)
