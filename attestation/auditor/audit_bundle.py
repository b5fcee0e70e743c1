"""The audit bundle: one file with everything an answer rests on (docs/spec/audit.md U1 to U10).

    [format, [digest of each part], [part, ...]]

    parts     configuration, order, asked, answers, and then for each cell: evidence, release, receipts, log

Deterministic CBOR inside deterministic CBOR. The digests make every bit matter, also inside what others encoded (a
certificate's list, a collateral's JSON), where two spellings may mean the same; they make nothing true. A part that
does not fit its digest is named by itself, so that damage is told from forgery.

Parsed and not believed: `audit` says what holds.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import Enum, unique
from typing import Final, Self

from attestation.auditor.errors import AuditRefused
from attestation.consensus.blocks import REQUESTS_MAX, BlockRefused, Request, RequestDigest, requests_from
from attestation.receipts.checkpoint import NOTE_BYTES_MAX
from attestation.receipts.signed_receipt import SIGNED_BYTES_MAX
from foundation import cbor
from foundation.digests import DIGEST_BYTES, tagged_sha256
from foundation.limits import HEADERS_MAX
from foundation.refusal import outline, shape
from foundation.sized import Digest32

FORMAT: Final = "anchorhold/audit/v1"
PART_TAG: Final = "anchorhold/audit/part/v1"
NONCE_TAG: Final = "anchorhold/audit/nonce/v1"
BUNDLE_BYTES_MAX: Final = 32 << 20
CELLS_MAX: Final = 64
ENTRIES_MAX, ENTRY_BYTES_MAX, DECISION_BYTES_MAX = 16, 64 << 10, 16 << 20
ANSWER_BYTES_MAX, OPENING_BYTES_MAX = 8 << 20, 512
NOTES_MAX, HASHES_MAX, RECEIPTS_MAX = 4096, 64, 1 << 18
_COMMON: Final = 4
_PER_CELL: Final = 4
_PARTS_MAX: Final = _COMMON + _PER_CELL * CELLS_MAX
_OUTER: Final = cbor.Limits(bytes_max=BUNDLE_BYTES_MAX, depth_max=2, items_max=2 * _PARTS_MAX + 8)
_INNER: Final = cbor.Limits(bytes_max=BUNDLE_BYTES_MAX, depth_max=4, items_max=1 << 20)


@unique
class Part(Enum):
    """What a part is, by its place."""

    CONFIG = "configuration"
    ORDER = "order"
    ASKED = "asked"
    ANSWERS = "answers"
    EVIDENCE = "evidence"
    RELEASE = "release"
    RECEIPTS = "receipts"
    LOG = "log"


_COMMON_PARTS: Final = (Part.CONFIG, Part.ORDER, Part.ASKED, Part.ANSWERS)
_CELL_PARTS: Final = (Part.EVIDENCE, Part.RELEASE, Part.RECEIPTS, Part.LOG)


def part_digest(raw: bytes) -> bytes:
    return tagged_sha256(PART_TAG, raw)


def audit_nonce(link: bytes) -> bytes:
    """U12: what a cell is asked for identity evidence over, so that it shows to be younger than that block."""
    return tagged_sha256(NONCE_TAG, link)


@dataclass(frozen=True, slots=True)
class CellParts:
    """One cell's parts, as they stand in the file."""

    evidence: bytes
    release: bytes
    receipts: bytes
    log: bytes

    @property
    def all(self) -> tuple[bytes, ...]:
        return self.evidence, self.release, self.receipts, self.log


@dataclass(frozen=True, slots=True)
class AuditBundle:
    """The file, taken apart and no further. `damaged` are the parts that do not fit their digests."""

    config: bytes
    order: bytes
    asked: bytes
    answers: bytes
    cells: tuple[CellParts, ...]
    damaged: frozenset[tuple[Part, int | None]] = frozenset()

    def encode(self) -> bytes:
        """With the digests that fit."""
        parts = [self.config, self.order, self.asked, self.answers, *(part for cell in self.cells for part in cell.all)]
        return cbor.encode([FORMAT, [part_digest(part) for part in parts], parts])

    def raw(self, part: Part, cell: int | None = None) -> bytes:
        """A part as it stands in the file: a common one, or one of a cell."""
        if cell is None:
            return dict(zip(_COMMON_PARTS, (self.config, self.order, self.asked, self.answers), strict=True))[part]
        return dict(zip(_CELL_PARTS, self.cells[cell].all, strict=True))[part]

    @classmethod
    def parse(cls, raw: bytes) -> Self:
        """Raises `AuditRefused`, nothing else."""
        match _decoded(raw, _OUTER, "form"):
            case [str(word), list() as digests, list() as parts] if word == FORMAT:
                pass
            case value:
                raise AuditRefused("form", expected=f"[{FORMAT}, [digest, ...], [part, ...]]", got=outline(value))
        found = [part for part in parts if isinstance(part, bytes)]
        cells, rest = divmod(len(found) - _COMMON, _PER_CELL)
        if len(found) != len(parts) or rest or not 1 <= cells <= CELLS_MAX:
            raise AuditRefused("parts", expected=f"4 parts and 4 for each of 1 to {CELLS_MAX} cells", got=len(parts))
        if len(digests) != len(parts) or any(not _is_digest(digest) for digest in digests):
            raise AuditRefused("digests", expected="a digest for every part", got=len(digests))
        named = [(part, None) for part in _COMMON_PARTS] + [(p, number) for number in range(cells) for p in _CELL_PARTS]
        damaged = frozenset(
            name for name, part, digest in zip(named, found, digests, strict=True) if part_digest(part) != digest
        )
        of_cells = [CellParts(*found[at : at + _PER_CELL]) for at in range(_COMMON, len(found), _PER_CELL)]
        config, order, asked, answers = found[:_COMMON]
        return cls(config, order, asked, answers, tuple(of_cells), damaged)


# -- the parts that are ours. Configuration, order (order.md O7) and evidence (evidence-production.md E122) are others'.

Asked = Request | RequestDigest
"""A request as it was ordered, or its digest where the bundle withholds it."""


@dataclass(frozen=True, slots=True)
class AskedPart:
    """Every request of every block of the slice: itself or its digest."""

    blocks: tuple[tuple[Asked, ...], ...]

    def encode(self) -> bytes:
        blocks = [b"".join(_encoded(each) for each in block) for block in self.blocks]
        heads = [cbor.head(0x80, len(block)) for block in self.blocks]
        joined = b"".join(head + block for head, block in zip(heads, blocks, strict=True))
        return cbor.head(0x80, len(self.blocks)) + joined

    @classmethod
    def parse(cls, raw: bytes) -> Self:
        """Raises `AuditRefused`, nothing else."""
        value = _decoded(raw, _INNER, "asked")
        if not isinstance(value, list) or not 1 <= len(value) <= HEADERS_MAX:
            raise AuditRefused("asked", expected=f"1 to {HEADERS_MAX} blocks", got=outline(value))
        return cls(tuple(_block(block) for block in value))


def _encoded(asked: Asked) -> bytes:
    return asked.encode() if isinstance(asked, Request) else cbor.encode(asked)


def _block(value: cbor.Value) -> tuple[Asked, ...]:
    if not isinstance(value, list) or not 1 <= len(value) <= REQUESTS_MAX:
        raise AuditRefused("asked", expected=f"1 to {REQUESTS_MAX} requests", got=shape(value))
    return tuple(_request_or_digest(each) for each in value)


def _request_or_digest(value: cbor.Value) -> Asked:
    if isinstance(value, bytes):
        return RequestDigest(_digest(value, "asked"))
    try:
        return requests_from([value])[0]
    except BlockRefused as refusal:
        raise AuditRefused("asked", expected=refusal.expected, got=refusal.got) from None


@dataclass(frozen=True, slots=True)
class Answer:
    """The bytes said (words, or sealed frames joined) and the outcome's opening; either may be withheld."""

    said: bytes | None = field(default=None, repr=False)
    opening: bytes | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class AnswersPart:
    """One answer for every request, in order."""

    answers: tuple[Answer, ...]

    def encode(self) -> bytes:
        return cbor.encode([[each.said, each.opening] for each in self.answers])

    @classmethod
    def parse(cls, raw: bytes) -> Self:
        """Raises `AuditRefused`, nothing else."""
        value = _decoded(raw, _INNER, "answers")
        if not isinstance(value, list):
            raise AuditRefused("answers", expected="an array", got=type(value).__name__)
        return cls(tuple(_answer(each) for each in value))


def _answer(value: cbor.Value) -> Answer:
    match value:
        case [bytes() | None as said, bytes() | None as opening] if (
            len(said or b"") <= ANSWER_BYTES_MAX and len(opening or b"") <= OPENING_BYTES_MAX
        ):
            return Answer(said, opening)
        case _:
            raise AuditRefused("answers", expected="[bytes said / null, opening / null]", got=outline(value))


@dataclass(frozen=True, slots=True)
class ReleasePart:
    """What the broker wrote down about this cell's key: signed log entries; and the document of the decision behind
    the release, whose digest the receipts carry as `adoption`, where there is one."""

    entries: tuple[tuple[bytes, bytes], ...] = ()
    decision: bytes | None = None

    def encode(self) -> bytes:
        return cbor.encode([[list(entry) for entry in self.entries], self.decision])

    @classmethod
    def parse(cls, raw: bytes) -> Self:
        """Raises `AuditRefused`, nothing else."""
        match _decoded(raw, _INNER, "release"):
            case [list() as entries, bytes() | None as decision] if (
                len(entries) <= ENTRIES_MAX and len(decision or b"") <= DECISION_BYTES_MAX
            ):
                return cls(tuple(_entry(entry) for entry in entries), decision)
            case value:
                raise AuditRefused(
                    "release", expected="[[[entry, signature], ...], decision / null]", got=outline(value)
                )


def _entry(value: cbor.Value) -> tuple[bytes, bytes]:
    match value:
        case [bytes(entry), bytes(signature)] if len(entry) <= ENTRY_BYTES_MAX and len(signature) == 64:
            return entry, signature
        case _:
            raise AuditRefused("release", expected="[entry, signature of 64 bytes]", got=outline(value))


@dataclass(frozen=True, slots=True)
class ReceiptsPart:
    """The signed receipts of all requests, in order."""

    signed: tuple[bytes, ...]

    def encode(self) -> bytes:
        return cbor.encode(list(self.signed))

    @classmethod
    def parse(cls, raw: bytes) -> Self:
        """Raises `AuditRefused`, nothing else."""
        return cls(_strings(_decoded(raw, _INNER, "receipts"), "receipts", SIGNED_BYTES_MAX, RECEIPTS_MAX))


@dataclass(frozen=True, slots=True)
class LogPart:
    """Where the receipts stand in the cell's log: from `first` on, with what stands beside them under the newest
    checkpoint; and every earlier checkpoint with its way to the newest, smallest first."""

    first: int
    beside: tuple[bytes, ...]
    newest: bytes
    earlier: tuple[tuple[bytes, tuple[bytes, ...]], ...] = ()

    def encode(self) -> bytes:
        earlier: list[cbor.Encodable] = [[note, list(proof)] for note, proof in self.earlier]
        return cbor.encode([self.first, list(self.beside), self.newest, earlier])

    @classmethod
    def parse(cls, raw: bytes) -> Self:
        """Raises `AuditRefused`, nothing else."""
        match _decoded(raw, _INNER, "log"):
            case [int(first), list() as beside, bytes(newest), list() as earlier] if (
                type(first) is int and first >= 0 and len(newest) <= NOTE_BYTES_MAX and len(earlier) <= NOTES_MAX
            ):
                return cls(first, _hashes(beside), newest, tuple(_earlier(each) for each in earlier))
            case value:
                raise AuditRefused("log", expected="[first, hashes, note, [[note, hashes], ...]]", got=outline(value))


def _earlier(value: cbor.Value) -> tuple[bytes, tuple[bytes, ...]]:
    match value:
        case [bytes(note), list() as proof] if len(note) <= NOTE_BYTES_MAX:
            return note, _hashes(proof)
        case _:
            raise AuditRefused("log", expected="[note, [hash, ...]]", got=outline(value))


# -- shared


def _decoded(raw: bytes, limits: cbor.Limits, what: str) -> cbor.Value:
    return cbor.decode_or(AuditRefused, what, raw, limits)


def _strings(value: cbor.Value, what: str, bytes_max: int, count_max: int) -> tuple[bytes, ...]:
    if not isinstance(value, list) or len(value) > count_max:
        raise AuditRefused(what, expected=f"at most {count_max} byte strings", got=shape(value))
    found = [each for each in value if isinstance(each, bytes) and len(each) <= bytes_max]
    if len(found) != len(value):
        raise AuditRefused(
            what, expected=f"byte strings of at most {bytes_max}", got=f"{len(found)} such in a list of {len(value)}"
        )
    return tuple(found)


def _hashes(values: Sequence[cbor.Value]) -> tuple[bytes, ...]:
    if len(values) > 2 * HASHES_MAX:
        raise AuditRefused("log", expected=f"at most {2 * HASHES_MAX} hashes", got=len(values))
    return tuple(_digest(value, "log") for value in values)


def _digest(value: cbor.Value, what: str) -> Digest32:
    if not isinstance(value, bytes) or len(value) != DIGEST_BYTES:
        raise AuditRefused(what, expected=f"{DIGEST_BYTES} bytes", got=shape(value))
    return Digest32(value)


def _is_digest(value: cbor.Value) -> bool:
    return isinstance(value, bytes) and len(value) == DIGEST_BYTES
