"""The links about the answers: receipts, their log, what was said, and what it cost (audit.md U20 to U33)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from attestation.auditor.audit_bundle import AnswersPart, AskedPart, AuditBundle, LogPart, Part, ReceiptsPart
from attestation.auditor.cell_checks import Believed, Released
from attestation.auditor.errors import AuditRefused
from attestation.auditor.findings import Ledger, Stage
from attestation.auditor.measured import Measured
from attestation.auditor.order_checks import Ordered, Place, check_whole
from attestation.auditor.terms import Terms
from attestation.consensus.blocks import EXPIRED_CODE, Header, Kind, Request, has_expired
from attestation.consensus.chat import NOT_SERVED, ChatRefused, ChatRequest
from attestation.consensus.chat_limits import RAISED
from attestation.receipts.body import Receipt, body_digest, first_previous
from attestation.receipts.checkpoint import Checkpoint, SignedCheckpoint, origin_of, without_cosignatures
from attestation.receipts.fork import Fork, Ground
from attestation.receipts.outcome import Opening, answer_digest
from attestation.receipts.seeds import SeedPolicy, beacon_seed, seed_commitment
from attestation.receipts.signed_receipt import SignedReceipt
from foundation import merkle
from foundation.refusal import listed, shown
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


def check_receipts(
    ledger: Ledger, bundle: AuditBundle, cell: int, measured: Measured, ordered: Ordered, believed: Believed
) -> Receipted | None:
    stage = Stage.RECEIPTS
    if not check_whole(ledger, bundle, stage, Part.RECEIPTS, cell=cell):
        return None
    found: Receipted | None = None
    with ledger.check(
        stage,
        "receipts.signed",
        "receipt.md T9 to T11",
        "every receipt is signed by the key in the evidence",
        cell=cell,
    ) as it:
        signed = tuple(SignedReceipt.parse(raw) for raw in ReceiptsPart.parse(bundle.cells[cell].receipts).signed)
        for each in signed:
            each.verify(believed.receipt_key)
        found = Receipted(signed)
        it.got = f"{len(signed)} receipts"
    if found is None:
        return None
    complete = False
    with ledger.check(
        stage,
        "receipts.complete",
        "audit.md U20",
        "every ordered request has its receipt: none is missing, none is there twice",
        cell=cell,
    ) as it:
        _check_complete(found.receipts, ordered, measured)
        complete = True
        it.got = f"{len(found.signed)} of {len(ordered.places)}"
    if not complete:
        return None
    with ledger.check(stage, "receipts.executed", "receipt.md T4", "what was executed is what was ordered", cell=cell):
        _check_requests(found.receipts, ordered.places)
        _check_expired(found.receipts, ordered.slice.headers)
    with ledger.check(
        stage, "receipts.chain", "receipt.md T7", "each receipt names the one before it, from its block on", cell=cell
    ):
        _check_chain(found.signed, ordered.places)
    with ledger.check(
        stage,
        "receipts.seed",
        "receipt.md T15",
        "randomness came from the block's beacon, or was fixed by the client",
        cell=cell,
    ) as it:
        it.got = _check_seeds(found.receipts, ordered.places)
    return found


def check_models(ledger: Ledger, bundle: AuditBundle, cell: int, measured: Measured, found: Receipted) -> None:
    """U23. Of plain requests that are shown: what was sealed is for a replay to read."""
    code, rule = "receipts.model", "audit.md U23"
    what = "a request for another model was refused for that, and no other was"
    blocks = AskedPart.parse(bundle.asked).blocks
    asked = [each for block in blocks for each in block]
    shown = [
        (each.payload, receipt)
        for each, receipt in zip(asked, found.receipts, strict=True)
        if isinstance(each, Request) and each.kind is Kind.PLAIN and receipt.finish != EXPIRED_CODE
    ]
    if not shown:
        ledger.unchecked(Stage.RECEIPTS, code, rule, what, "no plain request is shown", cell=cell)
        return
    with ledger.check(Stage.RECEIPTS, code, rule, what, cell=cell) as it:
        for payload, receipt in shown:
            expected = measured.plaintext and _names_another(payload, measured.names)
            if (receipt.finish == NOT_SERVED) is not expected:
                raise AuditRefused(
                    "model",
                    expected=f"{NOT_SERVED if expected else 'no refusal for its model'} at {receipt.place}",
                    got=receipt.finish,
                )
        it.got = f"{len(shown)} requests; served as {', '.join(sorted(measured.names))[:200]}"


def _names_another(payload: Prompt, names: frozenset[str]) -> bool:
    try:
        return ChatRequest.decode(payload, RAISED).model not in names
    except ChatRefused:
        return False  # refused for that


def check_served_by(ledger: Ledger, cell: int, measured: Measured, released: Released, found: Receipted) -> None:
    with ledger.check(
        Stage.RECEIPTS,
        "receipts.release",
        "receipt.md T2, T3",
        "each names the release, configuration and model that was released and measured",
        cell=cell,
    ) as it:
        for receipt in found.receipts:
            _check_by(receipt, measured, released)
        by = found.receipts[0].by
        it.got = f"engine profile {by.profile.hex()[:16]}…, observed {by.fingerprint.hex()[:16]}…"


def check_same(ledger: Ledger, cells: Sequence[tuple[int, Receipted]]) -> None:
    """U21: bodies differ nowhere between cells."""
    what = "every cell says the same about every request"
    if len(cells) < 2:
        ledger.unchecked(Stage.RECEIPTS, "receipts.same", "audit.md U21", what, "the bundle shows one cell")
        return
    first, of_first = cells[0]
    for number, other in cells[1:]:
        with ledger.check(Stage.RECEIPTS, "receipts.same", "audit.md U21", what, cell=number) as it:
            for one, two in zip(of_first.signed, other.signed, strict=True):
                if one.body != two.body:
                    raise AuditRefused(
                        "diverged",
                        expected=f"what cell {first} says of {one.receipt.place}",
                        got=f"another {_difference(one.receipt, two.receipt)}",
                    )
            it.got = f"{len(other.signed)} bodies, equal to cell {first}'s"


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


def _check_requests(receipts: Sequence[Receipt], places: Sequence[Place]) -> None:
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


def _check_chain(signed: Sequence[SignedReceipt], places: Sequence[Place]) -> None:
    previous = b""
    for each, place in zip(signed, places, strict=True):
        expected = previous if place.index else first_previous(place.link)
        if each.receipt.previous != expected:
            raise AuditRefused(
                "chain", expected=f"{expected.hex()} before {each.receipt.place}", got=each.receipt.previous.hex()
            )
        previous = body_digest(each.body)


def _check_seeds(receipts: Sequence[Receipt], places: Sequence[Place]) -> str:
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


# -- the log


def check_log(
    ledger: Ledger, bundle: AuditBundle, cell: int, terms: Terms, believed: Believed, found: Receipted, ordered: Ordered
) -> None:
    stage = Stage.LOG
    if not check_whole(ledger, bundle, stage, Part.LOG, cell=cell):
        return
    part: LogPart | None = None
    newest: Checkpoint | None = None
    with ledger.check(
        stage, "log.checkpoint", "receipt.md T19, T20", "the cell vouches for its whole log", cell=cell
    ) as it:
        part = LogPart.parse(bundle.cells[cell].log)
        newest = SignedCheckpoint.parse(part.newest).verify(believed.receipt_key)
        it.got = f"{newest.size} receipts"
    if part is None or newest is None:
        return
    leaves = [merkle.leaf(body) for body in found.bodies]
    with ledger.check(
        stage, "log.inclusion", "receipt.md T23", "these receipts stand in that log, one behind the other", cell=cell
    ) as it:
        if merkle.root_of_range(leaves, part.first, newest.size, part.beside) != newest.root:
            raise AuditRefused(
                "inclusion",
                expected=f"the root of the checkpoint at {newest.size}",
                got=f"root {shown(merkle.root_of_range(leaves, part.first, newest.size, part.beside))}",
            )
        it.got = f"numbers {part.first} to {part.first + len(leaves) - 1}"
    earlier: list[Checkpoint] = []
    with ledger.check(
        stage,
        "log.consistency",
        "receipt.md T22, T23",
        "every earlier checkpoint is the beginning of that log",
        cell=cell,
    ) as it:
        earlier = _earlier(ledger, part, newest, believed)
        it.got = f"{len(earlier)} earlier checkpoints"
    with ledger.check(
        stage,
        "log.blocks",
        "receipt.md T22",
        "the cell vouched after whole blocks, and for the last one shown here",
        cell=cell,
    ):
        _check_blocks(part, [*earlier, newest], ordered)
    _check_seen(ledger, cell, terms, believed, part, [*earlier, newest], leaves)


def _earlier(ledger: Ledger, part: LogPart, newest: Checkpoint, believed: Believed) -> list[Checkpoint]:
    found: list[Checkpoint] = []
    for note, proof in part.earlier:
        each = SignedCheckpoint.parse(note).verify(believed.receipt_key)
        if each.size == newest.size and each.root != newest.root:
            _convict(ledger, believed, note, part.newest)
        if found and each.size <= found[-1].size:
            raise AuditRefused("checkpoints", expected=f"more than {found[-1].size} receipts", got=each.size)
        if each.size >= newest.size:
            raise AuditRefused("checkpoints", expected=f"fewer than {newest.size} receipts", got=each.size)
        if not merkle.is_consistent(each.root, each.size, newest.root, newest.size, proof):
            raise AuditRefused(
                "consistency",
                expected=f"the log of {each.size} receipts to begin that of {newest.size}",
                got="no proof of it",
            )
        found.append(each)
    return found


def _convict(ledger: Ledger, believed: Believed, one: bytes, two: bytes) -> None:
    ledger.forked(Fork(Ground.ROOTS, believed.receipt_key, min(one, two), max(one, two)).encode())
    raise AuditRefused("fork", expected="one history", got="two logs of one size under this key: evidence of fraud")


def _check_blocks(part: LogPart, checkpoints: Sequence[Checkpoint], ordered: Ordered) -> None:
    """U26: where the order of the receipts in the log is known, a checkpoint ends with a block."""
    ends = {
        part.first + number + 1 for number, place in enumerate(ordered.places) if place.index == place.header.count - 1
    }
    last = part.first + len(ordered.places)
    for each in checkpoints:
        if part.first < each.size <= last and each.size not in ends:
            raise AuditRefused("checkpoint", expected="one after a whole block", got=f"one at {each.size}")


def _check_seen(
    ledger: Ledger,
    cell: int,
    terms: Terms,
    believed: Believed,
    part: LogPart,
    known: Sequence[Checkpoint],
    leaves: Sequence[bytes],
) -> None:
    """U27: what others have seen of this log, held against it."""
    stage, rule, what = Stage.LOG, "audit.md U27", "a checkpoint seen elsewhere is of this same log"
    notes = [
        note
        for note in map(without_cosignatures, terms.seen)
        if note.startswith(origin_of(believed.receipt_key).encode() + b"\n")
    ]
    if not notes:
        ledger.unchecked(stage, "log.seen", rule, what, "you brought none of this log", cell=cell)
    for note in notes:
        with ledger.check(stage, "log.seen", rule, what, cell=cell) as it:
            seen = SignedCheckpoint.parse(note).verify(believed.receipt_key)
            it.got = f"at {seen.size}: {_held(ledger, seen, note, believed, part, known, leaves)}"


def _held(
    ledger: Ledger,
    seen: Checkpoint,
    note: bytes,
    believed: Believed,
    part: LogPart,
    known: Sequence[Checkpoint],
    leaves: Sequence[bytes],
) -> str:
    newest = known[-1]
    if seen.size > newest.size:
        raise AuditRefused("rolled-back", expected=f"a log of at least {seen.size} receipts", got=newest.size)
    for each, its_note in zip(known, (*(note for note, _ in part.earlier), part.newest), strict=False):
        if each.size == seen.size:
            if each.root != seen.root:
                _convict(ledger, believed, note, its_note)
            return "the same"
    if part.first == 0 and seen.size <= len(leaves):
        if merkle.root(leaves[: seen.size]) != seen.root:
            raise AuditRefused(
                "fork",
                expected="one history",
                got=f"root {merkle.root(leaves[: seen.size]).hex()} under this key: evidence of fraud",
            )
        return "its beginning"
    raise AuditRefused(
        "seen",
        expected=f"a bundle that shows the log at {seen.size}",
        got=f"one that shows it at {listed(each.size for each in known)}",
    )


# -- what was said, and what it cost


def check_answers(ledger: Ledger, bundle: AuditBundle, receipts: Sequence[Receipt]) -> None:
    stage = Stage.ANSWERS
    if not check_whole(ledger, bundle, stage, Part.ANSWERS):
        return
    answers: AnswersPart | None = None
    with ledger.check(
        stage, "answers.said", "receipt.md T12", "the answers shown are the bytes that the receipts name"
    ) as it:
        answers = AnswersPart.parse(bundle.answers)
        it.got = _check_said(answers, receipts)
    if answers is None:
        ledger.not_reached(stage, "answers.outcome", "receipt.md T13", _OPENED, wants="the answers")
        return
    openings = sum(each.opening is not None for each in answers.answers)
    if not openings:
        ledger.unchecked(stage, "answers.outcome", "receipt.md T13", _OPENED, "the bundle opens none")
        return
    with ledger.check(stage, "answers.outcome", "receipt.md T13", _OPENED) as it:
        _check_openings(answers, receipts)
        it.got = f"{openings} opened"


_OPENED = "what was committed to about how an answer ended is what is shown of it"


def _check_said(answers: AnswersPart, receipts: Sequence[Receipt]) -> str:
    if len(answers.answers) != len(receipts):
        raise AuditRefused("answers", expected=f"{len(receipts)} answers", got=len(answers.answers))
    shown = 0
    for answer, receipt in zip(answers.answers, receipts, strict=True):
        if answer.said is None:
            continue
        if receipt.refused and answer.said:
            raise AuditRefused(
                "answers", expected=f"no words at {receipt.place}, which was refused", got=f"{len(answer.said)} bytes"
            )
        if answer_digest((answer.said,)) != receipt.answer:
            raise AuditRefused(
                "answers",
                expected=f"the answer at {receipt.place}",
                got=f"an answer of digest {answer_digest((answer.said,)).hex()}",
            )
        shown += 1
    return f"{shown} of {len(receipts)}; the others are withheld" if shown < len(receipts) else f"all {shown}"


def _check_openings(answers: AnswersPart, receipts: Sequence[Receipt]) -> None:
    for answer, receipt in zip(answers.answers, receipts, strict=True):
        if answer.opening is None:
            continue
        opening = Opening.parse(answer.opening)
        opening.check(receipt.outcome)
        if receipt.refused or receipt.kind is not Kind.PLAIN:
            continue
        said = opening.outcome
        if (said.finish, said.tokens_in, said.tokens_out, said.output) != (
            receipt.finish,
            receipt.tokens_in,
            receipt.tokens_out,
            receipt.answer,
        ):
            raise AuditRefused(
                "outcome",
                expected=f"what the receipt of {receipt.place} says in clear",
                got=f"finish {said.finish}, {said.tokens_in} and {said.tokens_out} tokens",
            )


def check_metering(ledger: Ledger, cell: int, measured: Measured, receipts: Sequence[Receipt]) -> None:
    with ledger.check(
        Stage.METERING, "metering.price", "receipt.md T16", "the price is the measured one", cell=cell
    ) as it:
        for receipt in receipts:
            if receipt.price != measured.price.digest:
                raise AuditRefused("price", expected=measured.price.digest.hex(), got=receipt.price.hex())
        price = measured.price
        it.got = f"{price.request} for a request, {price.token_in} for a token in, {price.token_out} for one out"
    with ledger.check(
        Stage.METERING,
        "metering.sum",
        "receipt.md T17",
        "every charge is what that price makes of the tokens",
        cell=cell,
    ) as it:
        for receipt in receipts:
            cycles = measured.price.cycles(receipt.tokens_in, receipt.tokens_out)
            if receipt.cycles != cycles:
                raise AuditRefused("cycles", expected=f"{cycles} at {receipt.place}", got=receipt.cycles)
        it.got = f"{sum(receipt.cycles for receipt in receipts)} cycles in all"


def _difference(one: Receipt, two: Receipt) -> str:
    """The first member in which two receipts differ, by name."""
    for name in Receipt.__slots__:
        if getattr(one, name) != getattr(two, name):
            return name
    return "encoding"


def _shown(value: object) -> str:
    return value.hex()[:32] if isinstance(value, bytes) else str(value)[:64]
