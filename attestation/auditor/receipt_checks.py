"""The links about the receipts judged: one for each request, in order, of what was ordered (audit.md U20 to U23)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from attestation.auditor.audit_bundle import AskedPart, ReceiptsPart
from attestation.auditor.errors import AuditRefused
from attestation.auditor.evidence_checks import Believed
from attestation.auditor.measured import Measured
from attestation.auditor.order_checks import Ordered, OrderedPlace
from attestation.auditor.release_checks import Released
from attestation.auditor.rows import Failed, Held, NothingToCheck, Outcome
from attestation.consensus.blocks import EXPIRED_CODE, Header, Kind, Request, has_expired
from attestation.consensus.chat import NOT_SERVED, ChatRefused, ChatRequest
from attestation.consensus.chat_limits import RAISED
from attestation.receipts.body import Receipt, body_digest, first_previous
from attestation.receipts.seeds import SeedPolicy, beacon_seed, seed_commitment
from attestation.receipts.signed_receipt import SignedReceipt
from foundation.refusal import shown
from foundation.secrecy import Prompt


@dataclass(frozen=True, slots=True)
class Receipted:
    """One cell's receipts: signed by its key, one for every request, in order."""

    signed: tuple[SignedReceipt, ...]

    @property
    def bodies(self) -> tuple[bytes, ...]:
        return tuple(each.body for each in self.signed)

    @property
    def receipts(self) -> tuple[Receipt, ...]:
        return tuple(each.receipt for each in self.signed)


def signed(raw: bytes, believed: Believed) -> Held[Receipted]:
    found = tuple(SignedReceipt.parse(each) for each in ReceiptsPart.parse(raw).signed)
    for each in found:
        each.verify(believed.receipt_key)
    return Held(Receipted(found), f"{len(found)} receipts")


def complete(found: Receipted, ordered: Ordered, measured: Measured) -> Held[Receipted]:
    _check_complete(found.receipts, ordered, measured)
    return Held(found, f"{len(found.signed)} of {len(ordered.places)}")


def executed(found: Receipted, ordered: Ordered) -> Held[None]:
    _check_requests(found.receipts, ordered.places)
    _check_expired(found.receipts, ordered.slice.headers)
    return Held(None)


def chained(found: Receipted, ordered: Ordered) -> Held[None]:
    _check_chain(found.signed, ordered.places)
    return Held(None)


def seeds(found: Receipted, ordered: Ordered) -> Held[None]:
    return Held(None, _check_seeds(found.receipts, ordered.places))


def models(measured: Measured, asked: bytes, found: Receipted) -> Held[None] | NothingToCheck[None]:
    """U23. Of plain requests that are shown: what was sealed is for a replay to read."""
    requests = [each for block in AskedPart.parse(asked).blocks for each in block]
    plain = [
        (each.payload, receipt)
        for each, receipt in zip(requests, found.receipts, strict=True)
        if isinstance(each, Request) and each.kind is Kind.PLAIN and receipt.finish != EXPIRED_CODE
    ]
    if not plain:
        return NothingToCheck("no plain request is shown")
    for payload, receipt in plain:
        expected = measured.plaintext and _names_another(payload, measured.names)
        if (receipt.finish == NOT_SERVED) is not expected:
            wanted = f"{NOT_SERVED if expected else 'no refusal for its model'} at {receipt.place}"
            raise AuditRefused("model", expected=wanted, got=receipt.finish)
    return Held(None, f"{len(plain)} requests; served as {', '.join(sorted(measured.names))[:200]}")


def _names_another(payload: Prompt, names: frozenset[str]) -> bool:
    try:
        return ChatRequest.decode(payload, RAISED).model not in names
    except ChatRefused:
        return False  # refused for that


def served_by(measured: Measured, released: Released, found: Receipted) -> Held[None]:
    for receipt in found.receipts:
        _check_by(receipt, measured, released)
    by = found.receipts[0].by
    return Held(None, f"engine profile {by.profile.hex()[:16]}…, observed {by.fingerprint.hex()[:16]}…")


def same(cells: Mapping[int, Receipted]) -> NothingToCheck[None] | list[Outcome]:
    """U21: bodies differ nowhere between cells."""
    if len(cells) < 2:
        return NothingToCheck("the bundle shows one cell")
    first, *others = cells
    outcomes: list[Outcome] = []
    for number in others:
        try:
            got = _check_same(first, cells[first], cells[number])
        except AuditRefused as refusal:
            outcomes.append(Failed(refusal, cell=number))
        else:
            outcomes.append(Held(None, got, cell=number))
    return outcomes


def _check_same(first: int, one: Receipted, other: Receipted) -> str:
    for left, right in zip(one.signed, other.signed, strict=True):
        if left.body != right.body:
            raise AuditRefused(
                "diverged",
                expected=f"what cell {first} says of {left.receipt.place}",
                got=f"another {_difference(left.receipt, right.receipt)}",
            )
    return f"{len(other.signed)} bodies, equal to cell {first}'s"


def _check_complete(receipts: Sequence[Receipt], ordered: Ordered, measured: Measured) -> None:
    for number, place in enumerate(ordered.places):
        expected = (measured.gateway, place.header.height, place.index, place.id)
        if number >= len(receipts):
            raise AuditRefused("missing", expected=f"a receipt for {expected[1:3]}", got="the end")
        got = receipts[number]
        if (got.gateway, got.height, got.index, got.id) != expected:
            raise AuditRefused("missing", expected=f"the receipt for {expected[1:3]}", got=f"one for {got.place}")
    if len(receipts) > len(ordered.places):
        raise AuditRefused("extra", expected=f"{len(ordered.places)} receipts", got=len(receipts))


def _check_requests(receipts: Sequence[Receipt], places: Sequence[OrderedPlace]) -> None:
    for receipt, place in zip(receipts, places, strict=True):
        if receipt.request != place.digest:
            expected = f"{place.digest.hex()} at {receipt.place}"
            raise AuditRefused("request", expected=expected, got=receipt.request.hex())
        if place.kind is not None and receipt.kind is not place.kind:
            raise AuditRefused("kind", expected=f"{place.kind.name} at {receipt.place}", got=receipt.kind.name)


def _check_expired(receipts: Sequence[Receipt], headers: Sequence[Header]) -> None:
    """order.md O38: a cell refuses as expired what the chain says has expired, and nothing else."""
    for receipt in receipts:
        if receipt.finish == EXPIRED_CODE and not has_expired(headers, receipt.id):
            raise AuditRefused("expired", expected=f"a header that lets {receipt.place} expire", got="none")


def _check_chain(signed: Sequence[SignedReceipt], places: Sequence[OrderedPlace]) -> None:
    before: SignedReceipt | None = None
    for each, place in zip(signed, places, strict=True):
        expected = body_digest(before.body) if before and place.index else first_previous(place.link)
        if each.receipt.previous != expected:
            raise AuditRefused(
                "chain", expected=f"{expected.hex()} before {each.receipt.place}", got=each.receipt.previous.hex()
            )
        before = each


def _check_seeds(receipts: Sequence[Receipt], places: Sequence[OrderedPlace]) -> str:
    drawn = 0
    for receipt, place in zip(receipts, places, strict=True):
        if receipt.seed_policy is SeedPolicy.CLIENT:
            continue
        expected = seed_commitment(beacon_seed(place.header.beacon, place.id))
        if receipt.seed != expected:
            raise AuditRefused(
                "seed", expected=f"the beacon's for {receipt.place}", got=f"commitment {shown(receipt.seed)}"
            )
        drawn += 1
    return f"{drawn} from the beacon, {len(receipts) - drawn} fixed by clients"


def _check_by(receipt: Receipt, measured: Measured, released: Released) -> None:
    by = receipt.by
    pairs: list[tuple[str, object, object]] = [
        ("release", released.release, by.release),
        ("decision", released.adoption, by.adoption),
        ("configuration", measured.digest, by.config),
    ]
    pairs += [
        (name, expected, got)
        for name, expected, got in (
            ("model root", measured.model_root, by.model_root),
            ("tokenizer", measured.tokenizer, by.tokenizer),
            ("template", measured.template, by.template),
            ("engine profile", measured.profile, by.profile),
        )
        if expected is not None
    ]
    for name, expected, got in pairs:
        if expected != got:
            raise AuditRefused("served-by", expected=f"{name} {_shown(expected)} at {receipt.place}", got=_shown(got))


def _difference(one: Receipt, two: Receipt) -> str:
    """The first member in which two receipts differ, by name."""
    for name in Receipt.__slots__:
        if getattr(one, name) != getattr(two, name):
            return name
    return "encoding"


def _shown(value: object) -> str:
    return value.hex()[:32] if isinstance(value, bytes) else str(value)[:64]
