"""Putting a bundle together, for whoever holds the parts: the host, or a client who was given them.

    bundle = assemble(config=..., proof=..., bodies=[...], cells=[CellSource(...), ...])

The parts are taken as they are and not believed, so that an auditor can be shown what is wrong with them; what cannot
be put together at all (a slice without receipts in the log) is refused as `AuditRefused`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from attestation.auditor.audit_bundle import (
    Answer,
    AnswersPart,
    Asked,
    AskedPart,
    AuditBundle,
    CellParts,
    LogPart,
    ReceiptsPart,
    ReleasePart,
)
from attestation.auditor.errors import AuditRefused
from attestation.consensus.blocks import Kind
from attestation.consensus.slices import Body, SliceProof
from attestation.receipts.checkpoint import SignedCheckpoint
from attestation.receipts.signed_receipt import SignedReceipt
from foundation import merkle


@dataclass(frozen=True, slots=True)
class CellSource:
    """What the host holds of one cell: evidence over `audit_nonce` of a block, the broker's entries, its whole log."""

    evidence: bytes
    signed: Sequence[bytes]
    notes: Sequence[bytes]
    entries: Sequence[tuple[bytes, bytes]] = ()
    decision: bytes | None = None


def assemble(
    *,
    config: bytes,
    proof: bytes,
    bodies: Sequence[bytes],
    cells: Sequence[CellSource],
    answers: Mapping[tuple[int, int], Answer] | None = None,
    show_plain: bool = False,
) -> AuditBundle:
    """The bundle of all requests of a slice. Plain prompts are in it only if `show_plain` says so, else their digests;
    an answer only if `answers` has it. Sealed requests are ciphertext, and always in it."""
    headers = SliceProof.parse(proof).headers
    blocks = [Body.parse(body).requests for body in bodies]
    asked = AskedPart(tuple(tuple(_asked(request, show_plain) for request in requests) for requests in blocks))
    places = [(header.height, index) for header in headers for index in range(header.count)]
    said = answers or {}
    return AuditBundle(
        config,
        proof,
        asked.encode(),
        AnswersPart(tuple(said.get(place, Answer()) for place in places)).encode(),
        tuple(_cell(cell, places) for cell in cells),
    )


def _asked(request: Asked, show_plain: bool) -> Asked:
    if isinstance(request, bytes) or show_plain or request.kind is Kind.SEALED:
        return request
    return request.digest()


def _cell(source: CellSource, places: Sequence[tuple[int, int]]) -> CellParts:
    signed = [SignedReceipt.parse(raw) for raw in source.signed]
    first = next((at for at, each in enumerate(signed) if each.receipt.place == places[0]), None)
    checkpoints = [(SignedCheckpoint.parse(note).checkpoint, note) for note in source.notes]
    if first is None or not checkpoints or checkpoints[-1][0].size < first + len(places):
        raise AuditRefused(
            "log",
            expected="receipts and a checkpoint for every request of the slice",
            got=f"{len(signed)} receipts and {len(checkpoints)} checkpoints for {len(places)} requests",
        )
    leaves = [merkle.leaf(each.body) for each in signed]
    (newest, note), earlier = checkpoints[-1], checkpoints[:-1]
    part = LogPart(
        first,
        merkle.range_path(leaves[: newest.size], first, len(places)),
        note,
        tuple(
            (its, merkle.consistency(leaves[: newest.size], each.size))
            for each, its in earlier
            if 0 < each.size < newest.size
        ),
    )
    return CellParts(
        source.evidence,
        ReleasePart(tuple(source.entries), source.decision).encode(),
        ReceiptsPart(tuple(source.signed[first : first + len(places)])).encode(),
        part.encode(),
    )
