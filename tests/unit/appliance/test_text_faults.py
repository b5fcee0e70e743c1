"""answer.md A23: what the text side raises is a receipt with one code; what an engine raises ends the cell."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator

import pytest
from structlog.testing import capture_logs

from appliance.engine.errors import EngineFault
from appliance.engine.protocol import EngineRequest, Sampling, Step
from appliance.model_runtime import ModelRuntime, Speaker
from appliance.ordering.sequencer import OrderedRequest
from appliance.service_keys import Rings
from appliance.serving.answer_pipeline import FAULT, Answering, Terms
from appliance.serving.receipts import ReceiptBook
from appliance.serving.window import Answered, Piece, Say
from appliance.text import End
from attestation.consensus.blocks import Kind
from attestation.consensus.chat import ChatRequest
from attestation.consensus.chat_limits import RAISED
from attestation.receipts.outcome import NO_ANSWER, Finish
from attestation.receipts.price import FREE
from attestation.sealed.request import Mode, Unsealed, seal
from attestation.sealed.ring import Ring
from attestation.sealed.suites import SuiteId
from devnet.subnet import GATEWAY
from foundation.refusal import Refused
from foundation.secrecy import Prompt, Secret
from tests.canary import Canary
from tests.unit.appliance.orders import BY, NAMES, PLACE, RECEIPT_KEY, chat_payload, ordered, receipt

RING = Ring.make(SuiteId.X25519, 1, 1000, 1, randomness=os.urandom)
CANARY = Canary("quietly0walled0words0of0somebody0else")
WORDS = CANARY.text


class Broken(Exception):
    """What nobody expected, with words of the request in it."""


RAISED_BY_TEXT: list[Callable[[], BaseException]] = [
    lambda: Broken(WORDS),
    lambda: RecursionError(WORDS),
    lambda: UnicodeEncodeError("utf-8", WORDS, 0, 1, WORDS),
    lambda: AssertionError(WORDS),
    lambda: KeyError(WORDS),
    lambda: Refused("Not A Code", expected=WORDS, got=WORDS),
]


class Fragile:
    """A script that raises at one point, and else lets bytes be bytes."""

    sampling = Sampling()
    stop_tokens: frozenset[int] = frozenset()
    stopped = False

    def __init__(self, point: str, raised: Callable[[], BaseException]) -> None:
        self._point = point
        self._raised = raised
        self._heard = 0

    def _at(self, point: str) -> None:
        if point == self._point:
            raise self._raised()

    def prompt(self, chat: ChatRequest) -> tuple[int, ...]:
        self._at("prompt")
        return (1,)

    def room(self, prompt: tuple[int, ...], asked: int | None, most: int) -> int:
        self._at("room")
        return 40

    def speaker(self, chat: ChatRequest) -> Speaker:
        self._at("speaker")
        return self

    def feed(self, token: int) -> bytes:
        self._heard += 1
        if self._heard == 37:
            self._at("feed")
        return bytes((token,))

    def end(self, *, full: bool) -> End:
        self._at("end")
        return End(b".", Finish.STOP)


class Letters:
    id = "letters"
    fingerprint = bytes(32)

    def run(self, request: EngineRequest) -> Iterator[Step]:
        for _ in range(40):
            yield Step(0x61, bytes(32))


def cell(script: Fragile, engine: Letters | None = None) -> Answering:
    book = ReceiptBook(RECEIPT_KEY, BY, GATEWAY, FREE)
    terms = Terms(GATEWAY, RAISED, True, PLACE, NAMES)
    return Answering(ModelRuntime(engine or Letters(), script), book, terms, Rings(RING))


def asked(kind: Kind, mode: Mode = Mode.WHOLE) -> OrderedRequest:
    payload = chat_payload(WORDS)
    if kind is Kind.SEALED:
        inside = Unsealed(Prompt(payload), Secret(b"\x07" * 32), mode, None)
        payload = seal(inside, RING.keys[0].key.public, PLACE, 1000)
    return ordered(kind=kind, payload=payload)


def finish(says: list[Say]) -> object:
    assert isinstance(says[-1], Answered)
    told = receipt(says[-1].receipt)
    assert not isinstance(told.finish, str) or (told.answer, told.tokens_in, told.tokens_out) == (NO_ANSWER, 0, 0)
    return told.finish


@pytest.mark.parametrize("raised", RAISED_BY_TEXT)
@pytest.mark.parametrize("point", ["prompt", "room", "speaker", "feed", "end"])
@pytest.mark.parametrize(
    ("kind", "mode"), [(Kind.PLAIN, Mode.WHOLE), (Kind.SEALED, Mode.WHOLE), (Kind.SEALED, Mode.STREAM)]
)
def test_whatever_text_raises_is_one_receipt_and_the_next_request_runs(
    raised: Callable[[], BaseException], point: str, kind: Kind, mode: Mode
) -> None:
    """answer.md A23"""
    request = asked(kind, mode)
    says = [list(cell(Fragile(point, raised)).answer(request)) for _ in range(2)]
    assert finish(says[0]) == FAULT
    assert says[0] == says[1]  # on every cell the same
    if mode is Mode.WHOLE and kind is Kind.SEALED:
        assert len(says[0]) == 1
    assert len(list(cell(Fragile("", raised)).answer(request))) > 1


def test_pieces_before_a_fault_are_void_for_whoever_hands_an_answer_on() -> None:
    """window.md N9, answer.md A23"""
    from anchorhold.host.answer_reports import AnswerCollector

    says = list(cell(Fragile("end", lambda: Broken(WORDS))).answer(asked(Kind.PLAIN)))
    assert isinstance(says[0], Piece)
    collector = AnswerCollector()
    told = [told for say in says if (told := collector.add(say)) is not None]
    assert [each.answer.reveal() for each in told] == [b""]


@pytest.mark.parametrize("raised", [MemoryError, EngineFault, KeyboardInterrupt])
@pytest.mark.parametrize("point", ["prompt", "feed", "end"])
def test_what_is_the_machine_s_fault_goes_through(raised: type[BaseException], point: str) -> None:
    """answer.md A23, window.md N15: want of memory is of one machine, so a receipt that says it would part cells."""
    with pytest.raises(raised):
        list(cell(Fragile(point, raised)).answer(asked(Kind.PLAIN)))


@pytest.mark.parametrize("at", ["run", "step"])
def test_what_an_engine_raises_is_never_a_fault_of_text(at: str) -> None:
    """window.md N15"""

    class Breaking(Letters):
        def run(self, request: EngineRequest) -> Iterator[Step]:
            if at == "run":
                raise UnicodeEncodeError("utf-8", "", 0, 1, "")
            return self._steps()

        def _steps(self) -> Iterator[Step]:
            yield Step(0x61, bytes(32))
            raise UnicodeEncodeError("utf-8", "", 0, 1, "")

    with pytest.raises(UnicodeEncodeError):
        list(cell(Fragile("", MemoryError), Breaking()).answer(asked(Kind.PLAIN)))


def test_a_fault_is_logged_without_a_word_of_the_request() -> None:
    """secrecy.md S5, answer.md A23: its type and place, so that somebody can look for it."""
    with capture_logs() as lines:
        for raised in RAISED_BY_TEXT:
            list(cell(Fragile("prompt", raised)).answer(asked(Kind.PLAIN)))
    assert [line["event"] for line in lines] == ["text fault"] * len(RAISED_BY_TEXT)
    assert lines[0]["reason"]["type"] == "Broken"
    assert (lines[0]["height"], lines[0]["index"]) == (1, 0)
    assert not CANARY.found_in(repr(lines).encode())
