"""text.md L16, L30 and window.md N1, N20: an answer has a size that window and gateway take, whatever a model says."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from anchorhold.host.slice_feed import feed
from appliance.engine.protocol import EngineRequest, Sampling, Step
from appliance.model_runtime import ModelRuntime, ModelScript
from appliance.service_keys import Rings
from appliance.serving.answer_pipeline import Answering, Terms
from appliance.serving.receipts import ReceiptBook
from appliance.serving.window import Answered, Piece, encode_say
from appliance.text import Finish, Listener, ModelText, room
from attestation.consensus.blocks import Kind
from attestation.consensus.chat import AssistantMessage, ChatRequest, Tool, ToolCall, UserMessage, encode_message
from attestation.consensus.chat import Sampling as Asked
from attestation.consensus.chat_limits import RAISED
from attestation.receipts.outcome import answer_digest
from attestation.receipts.price import FREE
from attestation.sealed.frames import FRAME_BYTES, AnswerKeys, FrameReader, split
from attestation.sealed.request import Mode, Unsealed, seal
from attestation.sealed.ring import Ring
from attestation.sealed.suites import SuiteId
from devnet.subnet import GATEWAY
from foundation import limits
from foundation.secrecy import Prompt, Secret
from tests import little_text
from tests.event_loop import run
from tests.unit.appliance.orders import BY, NAMES, PLACE, RECEIPT_KEY, ordered, receipt
from tests.unit.appliance.serving.service_cell import NOW, cell, chain_of

TEXT = ModelText.of(little_text.files("chatml"), context_tokens=40_000)
WORD = little_text.tokenizer("chatml").encode(" the").ids[0]
SAID = TEXT._tokenizer.pieces[WORD]
REPLY_KEY = Secret(b"\x21" * 32)


class Chatty:
    """Says one token for as long as it may."""

    id = "chatty"
    fingerprint = bytes(32)

    def run(self, request: EngineRequest) -> Iterator[Step]:
        return (Step(WORD, bytes(32)) for _ in range(request.max_tokens))


@dataclass
class LongWords:
    """A script whose every token stands for `token`."""

    token: bytes
    tools: bool = False
    sampling: Sampling = field(default_factory=Sampling)
    stop_tokens: frozenset[int] = frozenset()

    def prompt(self, chat: ChatRequest) -> tuple[int, ...]:
        return TEXT.render(chat)

    def room(self, prompt: tuple[int, ...], asked: int | None, most: int) -> int:
        return room(TEXT, prompt, asked, most)

    def speaker(self, chat: ChatRequest) -> Listener:
        return Listener([self.token] * (WORD + 1), (), read_calls=(lambda _: None) if self.tools else None)


def payload(max_tokens: int, *, tools: bool = False) -> bytes:
    tool = (Tool(Prompt(b"weather"), None, None),) if tools else None
    message = UserMessage(Prompt(b"on and on"))
    return ChatRequest("m", (message,), tools=tool, sampling=Asked(max_tokens=max_tokens)).encode()


def by(runtime: ModelRuntime, ring: Ring | None = None) -> Answering:
    book = ReceiptBook(RECEIPT_KEY, BY, GATEWAY, FREE)
    return Answering(runtime, book, Terms(GATEWAY, RAISED, True, PLACE, NAMES), Rings(ring))


def test_a_plain_answer_larger_than_a_frame_arrives_with_the_rest_of_its_block() -> None:
    chain = chain_of()
    chain.seal([payload(2), payload(30_000, tools=True), payload(2), payload(2)], NOW)
    answers = by(ModelRuntime(Chatty(), ModelScript(TEXT, Sampling())))
    said: dict[int, bytes] = {}
    ended: list[int] = []

    async def asked() -> None:
        async with cell(answers=answers) as at, at.host() as host:
            async for say in feed(host, chain.proof(1, 1, NOW), {1: chain.body(1)}):
                if isinstance(say, Piece):
                    said[say.index] = said.get(say.index, b"") + say.words
                elif isinstance(say, Answered):
                    ended.append(say.index)
                    assert receipt(say.receipt).answer == answer_digest([said[say.index]])

    run(asked())
    assert ended == [0, 1, 2, 3]
    assert said == {0: SAID * 2, 1: SAID * 30_000, 2: SAID * 2, 3: SAID * 2}
    assert len(said[1]) > limits.SAY_BYTES_MAX


@pytest.mark.parametrize("tools", [False, True])
@pytest.mark.parametrize("token", [b"w" * 100, "日".encode() * 33])
def test_an_answer_that_reaches_its_size_ends_as_length(token: bytes, tools: bool) -> None:  # text.md L30
    runtime = ModelRuntime(Chatty(), LongWords(token, tools))
    *pieces, end = by(runtime).answer(ordered(payload=payload(32_768, tools=tools)))
    assert isinstance(end, Answered)
    words = b"".join(piece.words for piece in pieces if isinstance(piece, Piece))
    told = receipt(end.receipt)
    assert told.finish is Finish.LENGTH
    assert limits.WORDS_BYTES_MAX - 3 < len(words) <= limits.WORDS_BYTES_MAX
    assert (token * 32_768).startswith(words)
    assert words.decode()
    assert told.answer == answer_digest([words])
    assert told.tokens_out == limits.WORDS_BYTES_MAX // len(token) + 1
    assert all(len(encode_say(piece)) <= limits.SAY_BYTES_MAX for piece in pieces)


@pytest.mark.parametrize("tools", [False, True])
@pytest.mark.parametrize("mode", list(Mode))
def test_the_largest_sealed_answer_is_one_the_gateway_takes(mode: Mode, tools: bool) -> None:
    # text.md L30, answer.md A1: the same words as in the clear, in no more frames than the gateway takes
    token = b"w" * (limits.WORDS_BYTES_MAX // limits.TOKENS_MAX)
    ring = Ring.make(SuiteId.X25519, 1, 1000, 10, randomness=os.urandom)
    inside = Unsealed(Prompt(payload(limits.TOKENS_MAX, tools=tools)), REPLY_KEY, mode, None)
    raw = seal(inside, ring.keys[0].key.public, PLACE, expiry=10)
    request = ordered(payload=raw, kind=Kind.SEALED)
    *pieces, end = by(ModelRuntime(Chatty(), LongWords(token, tools)), ring).answer(request)
    assert isinstance(end, Answered)
    frames = [piece.words for piece in pieces if isinstance(piece, Piece)]
    assert {len(frame) for frame in frames} == {FRAME_BYTES}
    reader = FrameReader(
        AnswerKeys.derive(
            REPLY_KEY,
            config=BY.config,
            gateway=GATEWAY,
            height=1,
            index=0,
            number=request.id,
            request=request.request_digest,
        )
    )
    words = b"".join(map(reader.feed, split(b"".join(frames))))
    assert words == token * limits.TOKENS_MAX
    assert reader.end().finish is Finish.LENGTH
    answer = FRAME_BYTES * len(frames)
    assert answer <= limits.ANSWER_BYTES_MAX
    if tools:  # frames without words first, then all words: nothing makes more of them
        assert answer > limits.ANSWER_BYTES_MAX // 2


@st.composite
def cut(draw: st.DrawFn, raw: bytes) -> list[bytes]:
    edges = sorted(draw(st.lists(st.integers(0, len(raw)), max_size=8)))
    return [raw[a:b] for a, b in zip([0, *edges], [*edges, len(raw)], strict=True)]


@given(
    data=st.data(),
    raw=st.binary(max_size=12) | st.text("ab日é🙂", max_size=12).map(str.encode),
    stops=st.lists(st.text("ab日", min_size=1, max_size=3), max_size=2),
    most=st.integers(0, 12),
)
def test_where_the_size_cuts_does_not_depend_on_tokens(
    data: st.DataObject, raw: bytes, stops: list[str], most: int
) -> None:
    """text.md L15, L30: the words without a bound, cut at the last whole character."""
    unbounded, finish = _heard([raw], stops, 1 << 20)
    expected = unbounded[:most].decode("utf-8", "ignore").encode()
    said = _heard(data.draw(cut(raw)), stops, most)
    assert said == (expected, finish if expected == unbounded else Finish.LENGTH)


def _heard(tokens: list[bytes], stops: list[str], most: int) -> tuple[bytes, Finish]:
    listener = Listener(tokens, stops, bytes_max=most)
    said = b""
    for number in range(len(tokens)):
        said += listener.feed(number)
        if listener.stopped:
            break
    end = listener.end(full=False)
    return said + end.words, end.finish


@pytest.mark.parametrize("spare", [-1, 0, 1])
def test_calls_that_are_too_long_as_a_message_are_words(spare: int) -> None:  # text.md L30
    message = AssistantMessage(None, (ToolCall(Prompt(b"call00000"), Prompt(b"f"), ()),))
    raw = encode_message(message)
    listener = Listener([b"calls"], (), read_calls=lambda _: message, bytes_max=len(raw) + spare)
    listener.feed(0)
    end = listener.end(full=False)
    assert (end.words, end.finish) == ((b"calls", Finish.LENGTH) if spare < 0 else (raw, Finish.TOOL_CALLS))
