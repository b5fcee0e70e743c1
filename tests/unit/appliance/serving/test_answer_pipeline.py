"""window.md N8, N9: what a request becomes depends on it, its beacon and its id, and on nothing else."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator
from dataclasses import replace
from hashlib import sha256

import hypothesis.strategies as st
import pytest
from hypothesis import given

from appliance.engine.errors import EngineFault
from appliance.engine.protocol import Engine, EngineRequest, Step
from appliance.engine.protocol import Sampling as EngineSampling
from appliance.engine.sampling.rules import SamplingRefused
from appliance.engine.scripted import OPENINGS, ScriptedEngine
from appliance.model_runtime import ByteScript, ModelRuntime
from appliance.ordering.sequencer import OrderedRequest
from appliance.service_keys import Rings
from appliance.serving.answer_pipeline import PIECE_TOKENS, Answering, Seed, Terms
from appliance.serving.receipts import ReceiptBook
from appliance.serving.window import Answered, Checkpoint, Piece, Say, encode_say
from attestation.consensus.blocks import EXPIRED_CODE, Kind
from attestation.consensus.chat import (
    NOT_SERVED,
    AnyForm,
    AssistantMessage,
    ChatRequest,
    JsonSchema,
    Sampling,
    SystemMessage,
    ToolMessage,
    UserMessage,
)
from attestation.consensus.chat_limits import RAISED, ChatLimits
from attestation.receipts.body import Receipt
from attestation.receipts.checkpoint import SignedCheckpoint
from attestation.receipts.outcome import Finish, answer_digest
from attestation.receipts.price import FREE
from attestation.receipts.seeds import SeedPolicy
from attestation.sealed.frames import FRAME_BYTES, AnswerKeys, FrameReader
from attestation.sealed.request import Mode, Unsealed, seal
from attestation.sealed.ring import Ring
from attestation.sealed.suites import SuiteId
from devnet.subnet import GATEWAY
from foundation.secrecy import Prompt, Secret
from tests.unit.appliance.orders import BY, PLACE, RECEIPT_KEY, answering, chat_payload, ordered, receipt


def said(request: OrderedRequest, limits: ChatLimits = RAISED) -> list[Say]:
    return said_by(ScriptedEngine(), request, limits)


def said_by(engine: Engine, request: OrderedRequest, limits: ChatLimits = RAISED) -> list[Say]:
    """By a cell that has just begun: a receipt's place follows the one before."""
    return list(answering(engine, limits=limits).answer(replace(request, index=0)))


def end_of(says: list[Say]) -> Receipt:
    assert isinstance(says[-1], Answered)
    return receipt(says[-1].receipt)


def words(says: list[Say]) -> bytes:
    return b"".join(say.words for say in says if isinstance(say, Piece))


@given(st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Zl", "Zp"]), max_size=80))
def test_an_answer_is_its_pieces_and_one_end(text: str) -> None:
    says = said(ordered(text))
    *pieces, end = says
    assert isinstance(end, Answered)
    assert all(isinstance(piece, Piece) for piece in pieces)
    assert words(says) in {opening + text.encode() for opening in OPENINGS}
    told = receipt(end.receipt)
    assert (told.height, told.index, told.finish) == (1, 0, Finish.STOP)
    assert (told.tokens_in, told.tokens_out) == (len(f"user:{text}\n".encode()), len(words(says)))
    assert told.answer == answer_digest([words(says)])


def test_the_same_request_gives_the_same_messages() -> None:
    request = ordered("again", number=7)
    assert said(request) == said(request)


def test_after_a_block_the_log_is_vouched_for() -> None:
    cell = answering(ScriptedEngine())
    for index in range(3):
        list(cell.answer(ordered(index=index)))
    closed = cell.close(1)
    assert isinstance(closed, Checkpoint)
    assert SignedCheckpoint.parse(closed.note).checkpoint.size == 3


@pytest.mark.parametrize(
    "other",
    [
        {"caller": b"\x05"},
        {"link": b"\x01" * 32},
        {"certified_time_ns": 99},
        {"block_time_ns": 98},
        {"request_digest": b"\x02" * 32},
    ],
)
def test_nothing_but_the_request_beacon_and_id_enters(other: dict[str, object]) -> None:
    """window.md N9, order.md O30: certified time least of all; link and digest are in the receipt alone."""
    request = ordered("again")
    one, another = said(request), said(replace(request, **other))  # type: ignore[arg-type]
    assert words(one) == words(another)
    assert (one == another) is not (other.keys() & {"link", "request_digest"} != set())
    assert Seed.of(replace(request, **other)) == Seed.of(request)  # type: ignore[arg-type]


def test_the_seed_is_what_the_specification_says() -> None:
    request = ordered(number=258, beacon=b"\x09" * 32)
    expected = sha256(b"\x12anchorhold/seed/v1" + b"\x09" * 32 + (258).to_bytes(8, "big")).digest()
    assert Seed.of(request) == Seed(SeedPolicy.BEACON, expected)
    assert Seed.of(replace(request, height=9, index=3)).value == expected
    assert len({Seed.of(replace(request, id=number)).value for number in range(50)}) == 50
    assert Seed.of(replace(request, beacon=bytes(32))).value != expected
    assert Seed.of(replace(request, id=2**64 - 1)).value != expected


def test_a_seed_of_the_clients_takes_the_beacons_place() -> None:
    """receipt.md T15: and the receipt says that it did."""
    chat = ChatRequest("m", (UserMessage(Prompt(b"x")),), sampling=Sampling(seed=258))
    expected = sha256(b"\x19anchorhold/seed/client/v1" + (258).to_bytes(8, "big")).digest()
    assert Seed.of(ordered(), chat) == Seed(SeedPolicy.CLIENT, expected)
    assert end_of(said(ordered(payload=chat.encode()))).seed_policy is SeedPolicy.CLIENT


def test_a_sealed_request_is_refused_where_nothing_can_be_sealed_to() -> None:
    for payload in (b"", b"\xff", chat_payload("readable all the same")):
        (end,) = said(ordered(kind=Kind.SEALED, payload=payload, height=4))
        assert isinstance(end, Answered)
        assert receipt(end.receipt).finish == "sealed.unsupported"


def test_a_plain_request_is_refused_where_the_configuration_says_so() -> None:
    """answer.md A2"""
    (end,) = answering(ScriptedEngine(), plaintext=False).answer(ordered())
    assert isinstance(end, Answered)
    assert (receipt(end.receipt).finish, receipt(end.receipt).kind) == ("plain.refused", Kind.PLAIN)


@pytest.mark.parametrize(
    ("payload", "code"),
    [
        (b"", "chat.encoding"),
        (b"canary", "chat.encoding"),
        (b"\xa0", "chat.request"),
        (bytes(RAISED.payload_bytes + 1), "chat.payload-size"),
        (ChatRequest("m", (), None).encode(), "chat.messages"),
        (chat_payload("x", 2**40), "chat.max-tokens"),
        (
            ChatRequest("m", (UserMessage(Prompt(b"x")),), response_format=AnyForm.JSON_OBJECT).encode(),
            "chat.response-format-unsupported",
        ),
        (
            ChatRequest(
                "m", (UserMessage(Prompt(b"x")),), response_format=JsonSchema(Prompt(b"n"), Prompt(b"{}"))
            ).encode(),
            "chat.response-format-unsupported",
        ),
    ],
)
def test_a_payload_that_is_no_chat_keeps_its_place(payload: bytes, code: str) -> None:
    """window.md N9, order.md O13: one refusal, one code, no word of the payload."""
    (end,) = said(ordered(payload=payload, height=3))
    assert isinstance(end, Answered)
    assert (end.height, end.index) == (3, 0)
    told = receipt(end.receipt)
    assert (told.finish, told.tokens_in, told.tokens_out) == (code, 0, 0)


def test_an_answer_in_any_form_may_be_asked_for_by_name() -> None:
    """order.md O11"""
    plain = ChatRequest("m", (UserMessage(Prompt(b"x")),), response_format=AnyForm.TEXT)
    assert not end_of(said(ordered(payload=plain.encode()))).refused


def test_an_expired_request_is_refused_before_it_is_read() -> None:
    """order.md O38: also one that would end whoever reads it."""
    (end,) = said(replace(ordered(payload=b"\xff not to be read"), expired=True))
    assert isinstance(end, Answered)
    assert receipt(end.receipt).finish == EXPIRED_CODE


@given(st.integers(1, 120))
def test_max_tokens_is_kept_to_and_said(most: int) -> None:
    whole = words(said(ordered("a line of some length, longer than one piece")))
    says = said(ordered("a line of some length, longer than one piece", max_tokens=most))
    end = end_of(says)
    assert words(says) == whole[:most]
    assert end.tokens_out == min(most, len(whole))
    assert end.finish is (Finish.LENGTH if most <= len(whole) else Finish.STOP)


def test_without_max_tokens_the_profile_bounds() -> None:
    short = replace(RAISED, max_tokens=5)
    says = said(ordered("more than five"), short)
    end = end_of(says)
    assert (len(words(says)), end.finish) == (5, Finish.LENGTH)
    assert (end.tokens_in, end.tokens_out) == (len(b"user:more than five\n"), 5)


def test_pieces_are_of_one_size_but_the_last() -> None:
    pieces = [say for say in said(ordered("x" * 100)) if isinstance(say, Piece)]
    assert {len(piece.words) for piece in pieces[:-1]} == {PIECE_TOKENS}
    assert 1 <= len(pieces[-1].words) <= PIECE_TOKENS


def test_pieces_come_as_the_engine_speaks() -> None:
    """The first piece is out before the engine has said its last token."""
    spoken: list[int] = []

    class Slow:
        id = "slow"
        fingerprint = bytes(32)

        def run(self, request: EngineRequest) -> Iterator[Step]:
            for token in range(3 * PIECE_TOKENS):
                spoken.append(token)
                yield Step(65, bytes(32))

    says = answering(Slow()).answer(ordered())
    assert isinstance(next(says), Piece)
    assert len(spoken) == PIECE_TOKENS


def test_every_role_is_a_line_of_the_prompt() -> None:
    """What an engine without a template is given: roles in order, no line break that a message did not have."""
    asked: list[EngineRequest] = []

    class Listening:
        id = "listening"
        fingerprint = bytes(32)

        def run(self, request: EngineRequest) -> Iterator[Step]:
            asked.append(request)
            return iter(())

    request = ChatRequest(
        "m",
        (
            SystemMessage(Prompt(b"be brief\nuser:not a user")),
            UserMessage(Prompt(b"hi")),
            AssistantMessage(None, ()),
            AssistantMessage(Prompt(b"so"), ()),
            ToolMessage(Prompt(b"42"), Prompt(b"id")),
        ),
    )
    end = end_of(said_by(Listening(), ordered(payload=request.encode())))
    prompt = b"system:be brief user:not a user\nuser:hi\nassistant:\nassistant:so\ntool:42\n"
    assert bytes(asked[0].prompt) == prompt
    assert (end.finish, end.tokens_in, end.tokens_out) == (Finish.STOP, len(prompt), 0)
    assert asked[0].max_tokens == RAISED.max_tokens


def test_an_engine_request_shows_neither_prompt_nor_seed() -> None:
    """secrecy.md S2"""
    shown = repr(EngineRequest(tuple(b"canary"), 3, b"canary"))
    assert "canary" not in shown
    assert str(tuple(b"canary")) not in shown


def test_what_a_request_fixes_of_sampling_comes_over_what_the_model_wants() -> None:
    asked: list[EngineRequest] = []

    class Listening(ScriptedEngine):
        def run(self, request: EngineRequest) -> Iterator[Step]:
            asked.append(request)
            return iter(())

    for sampling in (None, Sampling(), Sampling(temperature_micro=700_000, top_k=3)):
        chat = ChatRequest("m", (UserMessage(Prompt(b"x")),), sampling=sampling)
        said_by(Listening(), ordered(payload=chat.encode()))
    assert [each.sampling for each in asked] == [
        EngineSampling(),
        EngineSampling(),
        EngineSampling(temperature_micro=700_000, top_k=3),
    ]


# -- sealed

RING = Ring.make(SuiteId.X25519, 1, 100, 20, randomness=os.urandom)
REPLY = Secret(b"\x21" * 32)


def sealed(words: str = "hello", mode: Mode = Mode.WHOLE, caller: bytes | None = None, **fields: int) -> bytes:
    inside = Unsealed(Prompt(chat_payload(words, fields.get("max_tokens"))), REPLY, mode, caller)
    return seal(inside, RING.keys[0].key.public, PLACE, fields.get("expiry", 50))


def reader(request: OrderedRequest) -> FrameReader:
    return FrameReader(
        AnswerKeys.derive(
            REPLY,
            config=BY.config,
            gateway=PLACE.gateway,
            height=request.height,
            index=request.index,
            number=request.id,
            request=request.request_digest,
        )
    )


@given(st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Zl", "Zp"]), max_size=90), st.sampled_from(Mode))
def test_a_sealed_answer_is_the_plain_one_in_frames(text: str, mode: Mode) -> None:
    """answer.md A1, A14, A17"""
    request = ordered(kind=Kind.SEALED, payload=sealed(text, mode))
    says = list(answering(ScriptedEngine(), ring=RING).answer(request))
    opened = reader(request)
    heard = b"".join(opened.feed(say.words) for say in says if isinstance(say, Piece))
    plain = said(ordered(text))
    assert heard == words(plain)
    assert {len(say.words) for say in says if isinstance(say, Piece)} == {FRAME_BYTES}
    told, clear, outcome = end_of(says), end_of(plain), opened.end()
    assert (told.finish, told.tokens_out, told.answer) == (Finish.SEALED, opened.rung, opened.digest)
    assert (outcome.tokens_in, outcome.tokens_out) == (clear.tokens_in, clear.tokens_out)
    assert told.outcome == outcome.commitment(
        AnswerKeys.derive(
            REPLY, config=BY.config, gateway=PLACE.gateway, height=1, index=0, number=0, request=bytes(32)
        ).salt
    )
    assert told.outcome != outcome.commitment()  # receipt.md T13: nobody guesses a short answer


def frames_of_two_releases() -> tuple[list[bytes], list[bytes]]:
    """One request at one place, answered by two cells that differ in their measured configuration alone."""
    request = ordered(kind=Kind.SEALED, payload=sealed("a line of more than sixteen bytes"))
    other = answering(ScriptedEngine(), ring=RING, by=replace(BY, config=b"\x02" * 32))
    first, second = (
        [say.words for say in cell.answer(request) if isinstance(say, Piece)]
        for cell in (answering(ScriptedEngine(), ring=RING), other)
    )
    return first, second


def test_two_releases_never_share_a_key_and_a_nonce() -> None:
    """answer.md A14: the host learns nothing by laying the two answers side by side."""
    first, second = frames_of_two_releases()
    assert len(first) == len(second)
    assert not set(first) & set(second)
    blocks = ({frame[at : at + 16] for frame in frames for at in range(0, 144, 16)} for frames in (first, second))
    assert not set.intersection(*blocks)


def test_both_modes_say_the_same_frames_and_streaming_says_them_sooner() -> None:
    request = ordered(kind=Kind.SEALED, payload=sealed("a line of more than sixteen bytes", Mode.STREAM))
    cell = answering(ScriptedEngine(), ring=RING)
    streamed = cell.answer(request)
    first = next(streamed)
    assert isinstance(first, Piece)
    assert reader(request).feed(first.words) == words(said(ordered("a line of more than sixteen bytes")))[:16]
    frames = [first, *(say for say in streamed if isinstance(say, Piece))]
    whole = ordered(kind=Kind.SEALED, payload=sealed("a line of more than sixteen bytes", Mode.WHOLE))
    other = [say for say in answering(ScriptedEngine(), ring=RING).answer(whole) if isinstance(say, Piece)]
    assert frames == other  # the digest of these requests is a constant here: so are the keys


@pytest.mark.parametrize(
    ("request_", "code"),
    [
        (lambda: ordered(kind=Kind.SEALED, payload=b"\xff"), "sealed.format"),
        (lambda: ordered(kind=Kind.SEALED, payload=sealed(), height=51), "sealed.expired"),
        (lambda: ordered(kind=Kind.SEALED, payload=sealed(expiry=10**6), height=121), "sealed.key"),
        (lambda: ordered(kind=Kind.SEALED, payload=sealed()[:-1] + b"\0"), "sealed.unsealable"),
        (lambda: ordered(kind=Kind.SEALED, payload=sealed(caller=b"\x05")), "sealed.caller"),
        (lambda: ordered(kind=Kind.SEALED, payload=sealed(max_tokens=2**40)), "chat.max-tokens"),
        (
            lambda: ordered(
                kind=Kind.SEALED,
                payload=seal(Unsealed(Prompt(b"no chat"), REPLY, Mode.WHOLE), RING.keys[0].key.public, PLACE, 50),
            ),
            "chat.encoding",
        ),
        (
            lambda: ordered(
                kind=Kind.SEALED,
                payload=seal(
                    Unsealed(Prompt(chat_payload("x")), REPLY, Mode.WHOLE),
                    RING.keys[0].key.public,
                    replace(PLACE, model_root=bytes(32)),
                    50,
                ),
            ),
            "sealed.unsealable",
        ),
    ],
)
def test_a_sealed_request_that_cannot_be_run_has_a_receipt_with_one_code(request_: object, code: str) -> None:
    """answer.md A13: the same on every cell, and order never stalls."""
    request = request_()  # type: ignore[operator]
    for _ in range(2):
        cell = answering(ScriptedEngine(), ring=RING)
        (end,) = cell.answer(request)
        assert isinstance(end, Answered)
        told = receipt(end.receipt)
        assert (told.finish, told.kind, told.tokens_in, told.cycles) == (code, Kind.SEALED, 0, 0)
        (after,) = [say for say in cell.answer(ordered(height=request.height, index=1)) if isinstance(say, Answered)]
        assert receipt(after.receipt).finish is Finish.STOP


class Particular(ScriptedEngine):
    """Looks at a request before it takes it, as the fixed engine does; and says more than it was asked for."""

    def run(self, request: EngineRequest) -> Iterator[Step]:
        if request.sampling.logit_bias:
            raise SamplingRefused("sampling.logit_bias", expected="tokens of the vocabulary", got="another")
        return itertools.repeat(Step(0x61, bytes(32)))


def test_what_an_engine_refuses_keeps_its_place_and_ends_nobody() -> None:
    """answer.md A13: a request no engine takes is a refusal like any other, not the end of every cell."""
    chat = ChatRequest("m", (UserMessage(Prompt(b"x")),), sampling=Sampling(logit_bias=((7, 5),)))
    (end,) = answering(Particular()).answer(ordered(payload=chat.encode()))
    assert isinstance(end, Answered)
    assert receipt(end.receipt).finish == "sampling.logit-bias"


def test_an_engine_that_does_not_stop_ends_the_cell() -> None:
    """window.md N15"""
    with pytest.raises(EngineFault):
        list(answering(Particular()).answer(ordered(max_tokens=3)))


@given(
    st.lists(st.text(st.characters(codec="ascii", exclude_categories=["Cc"]), max_size=200), min_size=2, max_size=4),
    st.sampled_from(Mode),
)
def test_what_a_host_is_told_of_an_answer_is_its_rung(texts: list[str], mode: Mode) -> None:
    """answer.md A3: two answers of one rung to requests of one size are messages of the same lengths, receipts too."""
    seen: dict[tuple[int, int], list[int]] = {}
    for text in texts:
        payload = sealed(text, mode)
        says = list(answering(ScriptedEngine(), ring=RING).answer(ordered(kind=Kind.SEALED, payload=payload)))
        told = end_of(says)
        sizes = [len(encode_say(say)) for say in says]
        assert seen.setdefault((len(payload), told.tokens_out), sizes) == sizes


@pytest.mark.parametrize("kind", Kind)
@pytest.mark.parametrize(
    ("model", "finish"),
    [
        ("scripted", Finish.STOP),
        ("m", Finish.STOP),
        ("llama3.1:8b", NOT_SERVED),
        ("Scripted", NOT_SERVED),
        ("scripted-1", NOT_SERVED),
        ("default", NOT_SERVED),
        ("m ", "chat.model"),
        ("", "chat.model"),
    ],
)
def test_a_request_for_another_model_is_refused_by_name(kind: Kind, model: str, finish: Finish | str) -> None:
    """answer.md A25"""
    payload = ChatRequest(model, (UserMessage(Prompt(b"x")),)).encode()
    if kind is Kind.SEALED:
        payload = seal(
            Unsealed(Prompt(payload), Secret(b"\x01" * 32), Mode.WHOLE, None), RING.keys[0].key.public, PLACE, 100
        )
    says = list(answering(ScriptedEngine(), ring=RING).answer(ordered(kind=kind, payload=payload)))
    told = end_of(says)
    assert told.finish == (Finish.SEALED if kind is Kind.SEALED and isinstance(finish, Finish) else finish)
    assert told.refused is (len(says) == 1)


def test_what_is_wrong_with_a_request_comes_before_its_model() -> None:
    """answer.md A13, A25"""
    for payload, code in [
        (ChatRequest("other", ()).encode(), "chat.messages"),
        (b"\xa1hmessages\x80", "chat.request"),  # without a model
        (ChatRequest("other", (UserMessage(Prompt(b"x")),), sampling=Sampling(top_k=0)).encode(), "chat.top-k"),
    ]:
        assert end_of(list(answering(ScriptedEngine()).answer(ordered(payload=payload)))).finish == code


def test_a_cell_that_knows_no_name_answers_nobody() -> None:
    """answer.md A25: what is measured says the names; nothing means whichever is there."""
    cell = Answering(
        ModelRuntime(ScriptedEngine(), ByteScript()),
        ReceiptBook(RECEIPT_KEY, BY, GATEWAY, FREE),
        Terms(GATEWAY, RAISED),
        Rings(),
    )
    assert end_of(list(cell.answer(ordered()))).finish == NOT_SERVED
