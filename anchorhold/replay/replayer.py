"""Computing answers again: the cell's own code, the measured engine, and the bytes that the receipts name.

    replayer = Replayer(runtime, config, receipt, Openings(ring))
    for record in records(bundle):
        replayer.replay(record)             # the same, or in what it differs first

Nothing of a recorded answer goes in: the request as it was ordered does, and what comes out is held against the
receipt. `appliance.serving.answer_pipeline` itself runs, under no key, so that whatever the cell did is done again:
text, seed, engine, frames. What is computed can be read by whoever computes it. A sealed request needs the service
keys of its block, which the owner of the broker can hand to an auditor. Its client can hand over that request alone.

Where a replay differs the first token at which the words part is named, and by how much the engine preferred its own
(docs/spec/audit.md U50 to U55). Knows no network; the engine, the pack and the keys are handed in.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Final, Protocol, runtime_checkable

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from anchorhold.client.hand_over import HandedOver
from appliance.config import MeasuredConfig
from appliance.engine.protocol import Engine, EngineRequest, Step
from appliance.model_runtime import ModelRuntime
from appliance.ordering.sequencer import OrderedRequest
from appliance.service_keys import Rings
from appliance.serving.answer_pipeline import Answering, Terms
from appliance.serving.receipts import Conclusion, ReceiptBook
from appliance.serving.window import Piece, Say
from attestation.auditor.audit_bundle import AnswersPart, AskedPart, AuditBundle, ReceiptsPart
from attestation.auditor.errors import AuditRefused
from attestation.auditor.findings import Finding, FindingStanding, Stage, Status
from attestation.consensus.blocks import EXPIRED_CODE, Header, Kind, Request, has_expired
from attestation.consensus.chat import ChatRequest, UserMessage
from attestation.consensus.chat_limits import RAISED
from attestation.consensus.slices import SliceProof
from attestation.receipts.body import Receipt
from attestation.receipts.outcome import Opening
from attestation.receipts.seeds import seed_commitment
from attestation.receipts.signed_receipt import SignedReceipt
from attestation.sealed.errors import AnswerRefused, SealedRefused
from attestation.sealed.frames import AnswerKeys, FrameReader, split
from attestation.sealed.request import Place, SealedRequest, Unsealed
from attestation.sealed.ring import Ring
from foundation.refusal import Refused
from foundation.secrecy import Prompt, Secret

RULE: Final = "audit.md U50"
FIRST_RULE: Final = "audit.md U53"


@runtime_checkable
class Weighing(Protocol):
    """An engine that also says what it weighed: the greatest logits for what follows these tokens, greatest first."""

    def leaders(self, prompt: Sequence[int]) -> Sequence[tuple[int, float]]: ...


@dataclass(frozen=True, slots=True)
class Record:
    """One request of a bundle, as it was ordered, and what the bundle says came of it."""

    request: OrderedRequest
    receipt: Receipt
    said: bytes | None = field(repr=False)
    opening: Opening | None = field(repr=False)


def records(bundle: AuditBundle) -> tuple[Record | None, ...]:
    """Of every request, in order; None where the bundle withholds it. For a bundle that an audit found to hold."""
    headers = SliceProof.parse(bundle.order).headers
    blocks = AskedPart.parse(bundle.asked).blocks
    answers = AnswersPart.parse(bundle.answers).answers
    signed = [SignedReceipt.parse(raw) for raw in ReceiptsPart.parse(bundle.cells[0].receipts).signed]
    asked = [
        (header, index, each) for header, block in zip(headers, blocks, strict=True) for index, each in enumerate(block)
    ]
    found: list[Record | None] = []
    for (header, index, request), answer, each in zip(asked, answers, signed, strict=True):
        if not isinstance(request, Request):
            found.append(None)
            continue
        opening = None if answer.opening is None else Opening.parse(answer.opening)
        # order.md O38: a cell that ran it before it expired answered it; one that came later refused it.
        refused = each.receipt.finish == EXPIRED_CODE and has_expired(headers, request.id)
        found.append(Record(_ordered(header, index, request, refused), each.receipt, answer.said, opening))
    return tuple(found)


def _ordered(header: Header, index: int, request: Request, expired: bool) -> OrderedRequest:
    return OrderedRequest(
        height=header.height,
        index=index,
        id=request.id,
        caller=request.caller,
        kind=request.kind,
        payload=request.payload,
        beacon=header.beacon,
        link=header.link(),
        request_digest=request.digest(),
        block_time_ns=header.time_ns,
        certified_time_ns=0,
        expired=expired,
    )


@dataclass(frozen=True, slots=True)
class Replayed:
    """What came of computing one answer again. `differs` is empty where everything is the same."""

    place: tuple[int, int]
    differs: str = ""
    detail: str = ""
    unread: str = ""  # why it could not be computed again

    @property
    def same(self) -> bool:
        return not self.differs and not self.unread


class _Recording:
    """An engine that remembers what it was asked and what it said last. Changes neither."""

    def __init__(self, engine: Engine) -> None:
        self._engine: Final = engine
        self.id: Final = engine.id
        self.fingerprint: Final = engine.fingerprint
        self.request: EngineRequest | None = None
        self.steps: list[Step] = []

    def run(self, request: EngineRequest) -> Iterator[Step]:
        """The engine is asked at once, as by a cell: what it refuses is the answer of a refusal."""
        self.request, self.steps = request, []
        return self._kept(self._engine.run(request))

    def _kept(self, steps: Iterator[Step]) -> Iterator[Step]:
        for step in steps:
            self.steps.append(step)
            yield step


class Openings:
    """What an auditor can read: requests that clients handed over, and all of the blocks that a ring speaks for."""

    def __init__(self, ring: Ring | None = None, handed: Sequence[HandedOver] = ()) -> None:
        self._rings: Final = Rings(ring)
        self._handed: Final = {each.payload: each.inside for each in handed}

    def reads(self, request: OrderedRequest) -> bool:
        return request.payload.reveal() in self._handed or self._rings.of(request.height) is not None

    def unseal(self, request: OrderedRequest, place: Place) -> Unsealed:
        """As the cell did; of what was handed over, held to the same expiry and caller (audit.md U56)."""
        payload = request.payload.reveal()
        inside = self._handed.get(payload)
        if inside is None:
            return self._rings.unseal(request, place)
        if request.height > SealedRequest.parse(payload).expiry:
            raise SealedRefused("expired", expected="a height up to its expiry", got=request.height)
        if inside.caller is not None and inside.caller != request.caller:
            raise SealedRefused("caller", expected="the caller it was sealed for", got=request.caller.hex())
        if self._rings.of(request.height) is not None and self._rings.unseal(request, place) != inside:
            raise SealedRefused(
                "handed", expected="what the payload holds", got="a request that the payload does not hold"
            )
        return inside


class Replayer:
    """One engine, for one request after the other. `openings`: what sealed requests can be read by."""

    def __init__(
        self, runtime: ModelRuntime, config: MeasuredConfig, receipt: Receipt, openings: Openings | None = None
    ) -> None:
        self._runtime: Final = runtime
        self._config: Final = config
        self._openings: Final = openings or Openings()
        self._engine: Final = _Recording(runtime.engine)
        wanted = config.release
        self._place: Final = None if wanted is None else Place(config.gateway, wanted.model_root)
        # A book under a key of nobody's: nothing that a replay says is signed by anyone.
        book = ReceiptBook(Ed25519PrivateKey.generate(), receipt.by, config.gateway, config.price)
        terms = Terms(config.gateway, RAISED, config.plaintext, self._place, config.names)
        self._answering: Final = Answering(replace(runtime, engine=self._engine), book, terms, self._openings)

    def check_engine(self, receipt: Receipt) -> None:
        """U51. Raises `AuditRefused` unless this engine, under this profile, is the one the receipts name."""
        for name, expected, got in (
            ("profile", receipt.by.profile, self._runtime.profile),
            ("fingerprint", receipt.by.fingerprint, self._engine.fingerprint),
        ):
            if expected != got:
                raise AuditRefused(f"replay-{name}", expected=expected.hex(), got=got.hex())

    def replay(self, record: Record) -> Replayed:
        """Raises what an engine raises when it breaks; every refusal of a request is an answer like any other."""
        place = record.receipt.place
        if record.request.kind is Kind.SEALED and not self._openings.reads(record.request):
            return Replayed(place, unread="it is sealed, and nothing that opens it was given, nor a service key")
        self._engine.request = None
        pieces, conclusion = _driven(self._answering.conclude(record.request))
        return self._judged(record, b"".join(pieces), conclusion)

    def _judged(self, record: Record, said: bytes, conclusion: Conclusion) -> Replayed:
        receipt = record.receipt
        pairs = (
            ("finish", receipt.finish, conclusion.finish),
            ("seed", receipt.seed, seed_commitment(conclusion.seed, conclusion.seed_salt)),
            ("tokens in", receipt.tokens_in, conclusion.tokens_in),
            ("answer", receipt.answer, conclusion.answer),
            ("tokens out", receipt.tokens_out, conclusion.tokens_out),
            ("outcome", receipt.outcome, conclusion.outcome.commitment(conclusion.salt)),
        )
        differs = [name for name, expected, got in pairs if expected != got]
        if not differs and (record.said is None or record.said == said):
            return Replayed(receipt.place)
        return Replayed(receipt.place, ", ".join(differs) or "bytes shown", self._first_difference(record, conclusion))

    # -- where it parts

    def _first_difference(self, record: Record, conclusion: Conclusion) -> str:
        """U53. In words without words: token numbers and margins, never what was said."""
        asked = self._engine.request
        if asked is None or conclusion.outcome.trace == bytes(32):
            return "nothing was computed: the request was refused on one side"
        words = self._recorded_words(record)
        if words is None:
            return "the recorded words are not shown, so that the first token cannot be named"
        said = self._words_by_token(record, asked)
        number = _first_token(said, words)
        if number is None:
            return "every token's words are the same; the way to them (logits, or what a token weighed) is not"
        return f"first at token {number} of {len(said)}{self._margins(asked, number, said, words)}"

    def _recorded_words(self, record: Record) -> bytes | None:
        if record.said is None or record.receipt.refused:
            return None
        if record.request.kind is Kind.PLAIN:
            return record.said
        reader = FrameReader(self._keys(record))
        try:
            return b"".join(map(reader.feed, split(record.said)))
        except AnswerRefused:
            return None

    def _keys(self, record: Record) -> AnswerKeys:
        request = record.request
        inside = self._inside(record)
        return AnswerKeys.derive(
            inside.reply_key,
            config=record.receipt.by.config,
            gateway=self._config.gateway,
            height=request.height,
            index=request.index,
            number=request.id,
            request=request.request_digest,
        )

    def _inside(self, record: Record) -> _Inside:
        if self._place is None:
            raise AssertionError("a sealed request is replayed with its keys or not at all")
        inside = self._openings.unseal(record.request, self._place)
        return _Inside(ChatRequest.decode(inside.chat, RAISED), inside.reply_key)

    def _words_by_token(self, record: Record, asked: EngineRequest) -> list[bytes]:
        """What each token of the replay added, by a speaker of the same script."""
        if record.request.kind is Kind.SEALED:
            chat = self._inside(record).chat
        else:
            chat = ChatRequest.decode(record.request.payload, RAISED)
        speaker = self._runtime.script.speaker(chat)
        full = len(self._engine.steps) >= asked.max_tokens
        return [*(speaker.feed(step.token) for step in self._engine.steps), speaker.end(full=full).words]

    def _margins(self, asked: EngineRequest, number: int, said: Sequence[bytes], words: bytes) -> str:
        """What the engine weighed there: its own token, and the first of its leaders that the record goes on with."""
        if not isinstance(self._runtime.engine, Weighing):
            return "; this engine does not say what it weighed"
        steps = [step.token for step in self._engine.steps]
        leaders = list(self._runtime.engine.leaders((*asked.prompt, *steps[:number])))
        if not leaders:
            return ""
        weights = dict(leaders)
        own = steps[number] if number < len(steps) else None
        rest = words[len(b"".join(said[:number])) :]
        recorded = next((token for token, _ in leaders if token != own and self._goes_on(token, rest)), None)
        best = leaders[0][1]
        return (
            f"; below the greatest logit: the replay's token by {_below(weights, own, best)}, "
            f"the recorded one by {_below(weights, recorded, best)}"
        )

    def _goes_on(self, token: int, rest: bytes) -> bool:
        """Whether a token by itself says what the record says next. A guess: speakers may hold bytes back."""
        heard = self._runtime.script.speaker(ChatRequest("replay", (UserMessage(Prompt(b"")),))).feed(token)
        return bool(heard) and rest.startswith(heard)


@dataclass(frozen=True, slots=True)
class _Inside:
    chat: ChatRequest = field(repr=False)
    reply_key: Secret = field(repr=False)


def _below(weights: dict[int, float], token: int | None, best: float) -> str:
    return "more than any leader" if token is None or token not in weights else f"{best - weights[token]:.6g}"


def _first_token(said: Sequence[bytes], words: bytes) -> int | None:
    """The first token after which the replay's words are no beginning of the recorded ones, or stop short of them."""
    at = 0
    for number, heard in enumerate(said):
        if words[at : at + len(heard)] != heard:
            return number
        at += len(heard)
    return None if at == len(words) else len(said)


def _driven(concluding: Iterator[Say]) -> tuple[list[bytes], Conclusion]:
    """The pieces of a generator, and what it returns."""
    pieces: list[bytes] = []
    while True:
        try:
            say = next(concluding)
        except StopIteration as ended:
            conclusion: Conclusion = ended.value
            return ([] if isinstance(conclusion.finish, str) else pieces), conclusion  # window.md N9: void else
        if isinstance(say, Piece):
            pieces.append(say.words)


# -- as findings


def findings_of(replayed: Sequence[Replayed], chosen: int, there: int) -> list[Finding]:
    """For the report: one for all that were computed again, and one for each that differs."""
    what = "the same requests give the same answers, computed again"
    unread = [each for each in replayed if each.unread]
    done = len(replayed) - len(unread)
    found = [
        Finding(
            Stage.REPLAY,
            "replay.answer",
            FIRST_RULE,
            f"height {each.place[0]}, index {each.place[1]} gives the same answer again",
            FindingStanding.FAILS,
            f"{each.differs} as recorded",
            each.detail,
            status=Status.LOG,
        )
        for each in replayed
        if each.differs
    ]
    if found:
        return found
    if not done:
        return [
            Finding(
                Stage.REPLAY,
                "replay.answers",
                RULE,
                what,
                FindingStanding.UNCHECKED,
                got=unread[0].unread if unread else "the bundle shows no request to compute again",
            )
        ]
    rest = f"; {len(unread)} could not be read" if unread else ""
    return [
        Finding(
            Stage.REPLAY,
            "replay.answers",
            RULE,
            what,
            FindingStanding.HOLDS,
            got=f"{done} of {there}, {chosen} chosen{rest}",
        )
    ]


def refused_engine(refusal: Refused) -> Finding:
    """An engine, a pack or a profile that is not the recorded one (U51)."""
    return Finding(
        Stage.REPLAY,
        "replay.engine",
        "audit.md U51",
        "this is the engine, the profile and the model of the receipts",
        FindingStanding.FAILS,
        refusal.expected[:200],
        f"{refusal.got} ({refusal.code})"[:200],
        status=Status.LOG,
    )
