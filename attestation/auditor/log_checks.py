"""The links about a cell's log judged: one log, and these receipts in it (audit.md U24 to U27)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from attestation.auditor.audit_bundle import LogPart
from attestation.auditor.errors import AuditRefused
from attestation.auditor.evidence_checks import Believed
from attestation.auditor.order_checks import Ordered
from attestation.auditor.receipt_checks import Receipted
from attestation.auditor.rows import Held, NothingToCheck, Outcome, each_tried
from attestation.auditor.terms import AuditTerms
from attestation.receipts.checkpoint import Checkpoint, SignedCheckpoint, origin_of, without_cosignatures
from attestation.receipts.fork import ForkDocument, Ground
from foundation import merkle
from foundation.refusal import listed, shown

LINE: Final = b"\n"


class ForkFound(AuditRefused):
    """Two logs of one size under one key. `document` convicts that key (receipt.md T27)."""

    def __init__(self, key: bytes, one: bytes, two: bytes) -> None:
        got = "two logs of one size under this key: evidence of fraud"
        super().__init__("fork", expected="one history", got=got)
        self.document = ForkDocument(Ground.ROOTS, key, min(one, two), max(one, two)).encode()


@dataclass(frozen=True, slots=True)
class Vouched:
    """A checkpoint that the cell signed, and the note it stands in."""

    checkpoint: Checkpoint
    note: bytes


@dataclass(frozen=True, slots=True)
class Shown:
    """What the bundle shows of a cell's log, under its newest checkpoint."""

    part: LogPart
    newest: Vouched


def checkpoint(raw: bytes, believed: Believed) -> Held[Shown]:
    part = LogPart.parse(raw)
    newest = SignedCheckpoint.parse(part.newest).verify(believed.receipt_key)
    return Held(Shown(part, Vouched(newest, part.newest)), f"{newest.size} receipts")


def inclusion(log: Shown, found: Receipted) -> Held[None]:
    leaves, newest, first = _leaves(found), log.newest.checkpoint, log.part.first
    root = merkle.root_of_range(leaves, first, newest.size, log.part.beside)
    if root != newest.root:
        expected = f"the root of the checkpoint at {newest.size}"
        raise AuditRefused("inclusion", expected=expected, got=f"root {shown(root)}")
    return Held(None, f"numbers {first} to {first + len(leaves) - 1}")


def consistency(log: Shown, believed: Believed) -> Held[tuple[Vouched, ...]]:
    """The earlier checkpoints, each shown to be the beginning of the newest."""
    found: list[Vouched] = []
    newest = log.newest.checkpoint
    for note, proof in log.part.earlier:
        each = SignedCheckpoint.parse(note).verify(believed.receipt_key)
        if each.size == newest.size and each.root != newest.root:
            raise ForkFound(believed.receipt_key, note, log.newest.note)
        if found and each.size <= found[-1].checkpoint.size:
            raise AuditRefused("checkpoints", expected=f"more than {found[-1].checkpoint.size} receipts", got=each.size)
        if each.size >= newest.size:
            raise AuditRefused("checkpoints", expected=f"fewer than {newest.size} receipts", got=each.size)
        if not merkle.is_consistent(each.root, each.size, newest.root, newest.size, proof=proof):
            raise AuditRefused(
                "consistency",
                expected=f"the log of {each.size} receipts to begin that of {newest.size}",
                got="no proof of it",
            )
        found.append(Vouched(each, note))
    return Held(tuple(found), f"{len(found)} earlier checkpoints")


def blocks(log: Shown, ordered: Ordered, earlier: tuple[Vouched, ...] | None) -> Held[None]:
    _check_blocks(log.part, [each.checkpoint for each in _known(log, earlier)], ordered)
    return Held(None)


def _check_blocks(part: LogPart, checkpoints: Sequence[Checkpoint], ordered: Ordered) -> None:
    """U26: where the order of the receipts in the log is known, a checkpoint ends with a block."""
    ends = {
        part.first + number + 1 for number, place in enumerate(ordered.places) if place.index == place.header.count - 1
    }
    last = part.first + len(ordered.places)
    for each in checkpoints:
        if part.first < each.size <= last and each.size not in ends:
            raise AuditRefused("checkpoint", expected="one after a whole block", got=f"one at {each.size}")


def seen(
    terms: AuditTerms, believed: Believed, found: Receipted, log: Shown, earlier: tuple[Vouched, ...] | None
) -> NothingToCheck[None] | list[Outcome]:
    """U27: what others have seen of this log, held against it."""
    notes = [note for note in map(without_cosignatures, terms.seen) if _is_of(note, believed)]
    if not notes:
        return NothingToCheck("you brought none of this log")
    known, leaves = _known(log, earlier), _leaves(found)

    def held(note: bytes) -> Held[None]:
        of_others = Vouched(SignedCheckpoint.parse(note).verify(believed.receipt_key), note)
        place = _held_against(of_others, believed, log.part, known, leaves=leaves)
        return Held(None, f"at {of_others.checkpoint.size}: {place}")

    return each_tried(held, notes)


def _held_against(
    seen: Vouched, believed: Believed, part: LogPart, known: Sequence[Vouched], *, leaves: Sequence[bytes]
) -> str:
    size, newest = seen.checkpoint.size, known[-1].checkpoint
    if size > newest.size:
        raise AuditRefused("rolled-back", expected=f"a log of at least {size} receipts", got=newest.size)
    for each in known:
        if each.checkpoint.size == size:
            if each.checkpoint.root != seen.checkpoint.root:
                raise ForkFound(believed.receipt_key, seen.note, each.note)
            return "the same"
    if part.first == 0 and size <= len(leaves):
        if (root := merkle.root(leaves[:size])) != seen.checkpoint.root:
            got = f"root {root.hex()} under this key: evidence of fraud"
            raise AuditRefused("fork", expected="one history", got=got)
        return "its beginning"
    raise AuditRefused(
        "seen",
        expected=f"a bundle that shows the log at {size}",
        got=f"one that shows it at {listed(each.checkpoint.size for each in known)}",
    )


def named(terms: AuditTerms, cells: Mapping[int, Believed]) -> Held[None] | None:
    """U27: a checkpoint of a log that is not shown is held against nothing. No finding without checkpoints."""
    notes = [without_cosignatures(note) for note in terms.seen]
    for note in notes:
        if not any(_is_of(note, believed) for believed in cells.values()):
            origins = listed(origin_of(believed.receipt_key) for believed in cells.values())
            got = f"a checkpoint that begins with {shown(note.partition(LINE)[0])}"
            raise AuditRefused("seen", expected=f"a checkpoint of {origins}", got=got)
    return Held(None, f"{len(notes)} of these logs") if notes else None


def _is_of(note: bytes, believed: Believed) -> bool:
    """Whether a checkpoint names this cell's log."""
    return note.startswith(origin_of(believed.receipt_key).encode() + LINE)


def _known(log: Shown, earlier: tuple[Vouched, ...] | None) -> list[Vouched]:
    return [*(earlier or ()), log.newest]


def _leaves(found: Receipted) -> list[bytes]:
    return [merkle.leaf(body) for body in found.bodies]
