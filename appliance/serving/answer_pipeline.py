"""One ordered request becomes its answer and its receipt: order -> unseal -> text -> engine -> frames -> receipt.

    for say in answering.answer(request): ...       pieces, then the receipt; of a refusal the receipt alone
    answering.close(height)                         the checkpoint behind a block

Whatever is said follows from the request, its place, its beacon and what is measured into the cell, so N cells say the
same bytes, signatures apart (docs/spec/answer.md A1, A13). One request at a time, on the device's thread.

Text is a function of the request and of the engine's tokens, so what it raises it raises on every cell: that request is
refused with `text.fault`, and the next one runs. An engine that fails, and want of memory, are of one machine: these go
through, and end the cell (A23).
"""

from __future__ import annotations

from collections.abc import Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, fields, replace
from typing import Final, Protocol

import structlog

from appliance.engine.errors import EngineFault
from appliance.engine.protocol import EngineRequest, Sampling, Step
from appliance.model_runtime import ModelRuntime, Speaker
from appliance.ordering.refusals import OrderRefused
from appliance.ordering.sequencer import OrderedRequest
from appliance.serving.receipts import Conclusion, ReceiptBook
from appliance.serving.window import Answered, Checkpoint, Piece, Say
from appliance.text import TextRefused
from attestation.consensus.blocks import Kind
from attestation.consensus.chat import AnyForm, ChatRefused, ChatRequest, ModelRefused
from attestation.consensus.chat_limits import ChatLimits
from attestation.receipts import seeds as receipt_seeds
from attestation.receipts.outcome import NO_TRACE, Outcome, TraceDigest, answer_digest
from attestation.receipts.seeds import SeedPolicy, beacon_seed, client_seed
from attestation.sealed.buckets import STEP, billed_in
from attestation.sealed.errors import SealedRefused
from attestation.sealed.frames import AnswerKeys, FrameWriter
from attestation.sealed.request import Mode, Place, Unsealed
from foundation.limits import PIECE_BYTES_MAX
from foundation.logs import described
from foundation.refusal import Refused
from foundation.secrecy import Prompt
from foundation.sized import digest32

PIECE_TOKENS: Final = STEP  # of a plain answer; a frame of a sealed one holds as many
FAULT: Final = "text.fault"
_NAMED: Final = (ChatRefused, ModelRefused, TextRefused)  # what the text side refuses by codes of its own

_log = structlog.get_logger()


class PlainRefused(Refused):
    """A request in the clear, where the configuration wants them sealed."""

    stage = "plain"


class TextFault(Refused):
    """A request, or tokens, over which the text side of this release fails: the same on every cell (A23)."""

    stage = "text"

    def __init__(self) -> None:
        super().__init__(FAULT, expected="text that this release can work with", got="text on which it fails")


@dataclass(frozen=True, slots=True)
class Terms:
    """What is measured into the cell and every answer depends on. `place` is None where nothing can be sealed to it."""

    gateway: bytes
    limits: ChatLimits
    plaintext: bool = True
    place: Place | None = None
    names: frozenset[str] = frozenset()  # what a request may call the model by


@dataclass(frozen=True, slots=True)
class Seed:
    """All the randomness of an answer, and where it comes from."""

    policy: SeedPolicy
    value: receipt_seeds.Seed = field(repr=False)

    @classmethod
    def of(cls, request: OrderedRequest, chat: ChatRequest | None = None) -> Seed:
        chosen = chat.sampling.seed if chat is not None and chat.sampling is not None else None
        if chosen is not None:
            return cls(SeedPolicy.CLIENT, client_seed(chosen))
        return cls(SeedPolicy.BEACON, beacon_seed(request.beacon, request.id))


class Voice(Protocol):
    """How words leave the cell: in the clear, or in frames."""

    def feed(self, words: bytes) -> list[bytes]:
        """One token's words; the pieces that are to be said now."""

    def end(self, rest: bytes, outcome: Outcome, seed: Seed) -> tuple[list[bytes], Conclusion]:
        """The words that came with the end; what is left to say, and what the receipt says of it."""


class PlainVoice:
    """Pieces of so many tokens, as they come, and none larger than the window carries."""

    def __init__(self) -> None:
        self._piece = bytearray()
        self._tokens = 0

    def feed(self, words: bytes) -> list[bytes]:
        self._piece += words
        self._tokens += 1
        return [] if self._tokens % PIECE_TOKENS else self._taken()

    def end(self, rest: bytes, outcome: Outcome, seed: Seed) -> tuple[list[bytes], Conclusion]:
        self._piece += rest
        return self._taken(), Conclusion.plain(outcome, seed.policy, seed.value)

    def _taken(self) -> list[bytes]:
        words = bytes(self._piece)
        self._piece.clear()
        return [words[at : at + PIECE_BYTES_MAX] for at in range(0, len(words), PIECE_BYTES_MAX)]


class SealedVoice:
    """Frames; whole answers are held back to their end."""

    def __init__(self, keys: AnswerKeys, mode: Mode, room: int) -> None:
        self._keys: Final = keys
        self._writer: Final = FrameWriter(keys)
        self._streams: Final = mode is Mode.STREAM
        self._room: Final = room
        self._frames: Final[list[bytes]] = []

    def feed(self, words: bytes) -> list[bytes]:
        frame = self._writer.feed(words)
        if frame is None:
            return []
        self._frames.append(frame)
        return [frame] if self._streams else []

    def end(self, rest: bytes, outcome: Outcome, seed: Seed) -> tuple[list[bytes], Conclusion]:
        self._writer.hear_rest(rest)
        said = len(self._frames) if self._streams else 0
        rung, frames = self._writer.end(outcome)
        self._frames.extend(frames)
        return self._frames[said:], Conclusion.sealed_answer(
            outcome,
            answer_digest(self._frames),
            seed.policy,
            seed.value,
            salt=self._keys.salt,
            tokens_in=billed_in(self._room),
            tokens_out=rung,
        )


@dataclass(frozen=True, slots=True)
class Task:
    """A request that can be run: the engine has looked at it and taken it."""

    job: EngineRequest
    steps: Iterator[Step]
    seed: Seed
    speaker: Speaker
    voice: Voice


class Opener(Protocol):
    """Whoever can say what a sealed request holds: the rings of a cell."""

    def unseal(self, request: OrderedRequest, place: Place) -> Unsealed:
        """Raises `SealedRefused`."""
        ...


class Answering:
    """Everything a serving cell answers with."""

    def __init__(self, runtime: ModelRuntime, book: ReceiptBook, terms: Terms, opener: Opener) -> None:
        self._runtime: Final = runtime
        self._book: Final = book
        self._terms: Final = terms
        self._opener: Final = opener
        self._fault: BaseException | None = None  # behind the newest `text.fault`

    def answer(self, request: OrderedRequest) -> Iterator[Say]:
        """What is said about `request`: its pieces and its receipt, or the receipt of a refusal (order.md O13)."""
        conclusion = yield from self.conclude(request)
        if conclusion.finish == FAULT and self._fault is not None:
            # The type and place of what was raised; never its text, which may quote the request.
            _log.error("text fault", height=request.height, index=request.index, reason=described(self._fault))
            self._fault = None
        issued = self._book.issue(request, conclusion)
        yield Answered(request.height, request.index, issued.signed)

    def conclude(self, request: OrderedRequest) -> Generator[Say, None, Conclusion]:
        """The pieces, and what its receipt will say. Whoever computes an answer again needs no more (audit.md U50).

        Pieces before a refusal are void (window.md N9): there are some only where text failed in the middle.
        """
        try:
            task = self._task(request)
        except Refused as refusal:
            return self._refusal(request, refusal)
        try:
            return (yield from self._run(request, task))
        except TextFault as fault:
            return self._refusal(request, fault)

    def close(self, height: int) -> Say:
        """After a block's last receipt."""
        return Checkpoint(height, self._book.checkpoint())

    def _refusal(self, request: OrderedRequest, refusal: Refused) -> Conclusion:
        self._fault = refusal.__cause__ if isinstance(refusal, TextFault) else None
        return Conclusion.refusal(_code(refusal), Seed.of(request).value, sealed=request.kind is Kind.SEALED)

    def _run(self, request: OrderedRequest, task: Task) -> Generator[Say, None, Conclusion]:
        height, index = request.height, request.index
        speaker, voice, job = task.speaker, task.voice, task.job
        words: list[bytes] = []
        trace, said = bytes(NO_TRACE), 0
        for step in task.steps:
            said, trace = said + 1, step.trace
            if said > job.max_tokens:
                raise EngineFault("more tokens than it was asked for")
            with _text_at_work():
                heard, stopped = speaker.feed(step.token), speaker.stopped
            words.append(heard)
            for piece in voice.feed(heard):
                yield Piece(height, index, piece)
            if stopped:
                break
        with _text_at_work():
            end = speaker.end(full=said >= job.max_tokens)
        of_trace = TraceDigest(digest32(trace))
        outcome = Outcome(end.finish, len(job.prompt), said, answer_digest([*words, end.words]), of_trace)
        pieces, conclusion = voice.end(end.words, outcome, task.seed)
        for piece in pieces:
            yield Piece(height, index, piece)
        return conclusion

    # -- from a payload to a task

    def _task(self, request: OrderedRequest) -> Task:
        """Raises `Refused` with the code of its receipt; the order of what is looked at is part of it (A13)."""
        if request.expired:  # order.md O38: before anything of it is read, so that nothing in it can do harm
            raise OrderRefused(
                "expired", expected="a request that the gateway waits for", got="a request it has refused"
            )
        payload, voice = self._opened(request)
        script = self._runtime.script
        with _text_at_work():
            chat = ChatRequest.decode(payload, self._terms.limits)
            if chat.model not in self._terms.names:
                raise ModelRefused
            if chat.response_format not in (None, AnyForm.TEXT):
                raise ChatRefused("response-format-unsupported", expected="words in any form", got="a form asked for")
            seed = Seed.of(request, chat)
            asked = chat.sampling.max_tokens if chat.sampling is not None else None
            prompt = script.prompt(chat)
            job = EngineRequest(
                prompt,
                script.room(prompt, asked, self._terms.limits.max_tokens),
                seed.value,
                _sampling(chat, script.sampling),
                script.stop_tokens,
            )
            speaker = script.speaker(chat)
        return Task(job, self._runtime.engine.run(job), seed, speaker, voice)

    def _opened(self, request: OrderedRequest) -> tuple[Prompt, Voice]:
        if request.kind is Kind.PLAIN:
            if not self._terms.plaintext:
                raise PlainRefused("plain.refused", expected="a sealed request", got="a plain request")
            return request.payload, PlainVoice()
        place = self._terms.place
        if place is None:
            raise SealedRefused("unsupported", expected="a plain request", got="a sealed one")
        inside = self._opener.unseal(request, place)
        keys = AnswerKeys.derive(
            inside.reply_key,
            config=self._book.config,
            gateway=self._terms.gateway,
            height=request.height,
            index=request.index,
            number=request.id,
            request=request.request_digest,
        )
        return inside.chat, SealedVoice(keys, inside.mode, inside.room)


@contextmanager
def _text_at_work() -> Iterator[None]:
    """Around what follows from the request and its tokens alone (A23): it answers, refuses by name, or is a fault."""
    try:
        yield
    except (*_NAMED, MemoryError, EngineFault):
        raise
    except Exception as reason:
        raise TextFault from reason


def _code(refusal: Refused) -> str:
    """As a receipt carries it (receipt.md T6): some codes name fields, whose names have underscores."""
    return refusal.code.replace("_", "-")


def _sampling(chat: ChatRequest, default: Sampling) -> Sampling:
    """What the client fixed, over what holds for the model."""
    fixed = chat.sampling
    if fixed is None:
        return default
    named = {field.name: getattr(fixed, field.name) for field in fields(Sampling)}
    return replace(default, **{name: value for name, value in named.items() if value is not None})
