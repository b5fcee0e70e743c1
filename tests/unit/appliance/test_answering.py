"""window.md N8, N9: what a request becomes depends on it, its beacon and its id, and on nothing else."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from hashlib import sha256

import hypothesis.strategies as st
import pytest
from hypothesis import given

from appliance.answering import PIECE_TOKENS, SEALED_UNSUPPORTED, answer, seed_of
from appliance.engine.protocol import EngineRequest, Step
from appliance.engine.scripted import OPENINGS, ScriptedEngine
from appliance.ordering.sequencer import OrderedRequest
from appliance.window import Answered, Finish, Piece, Say, Unanswerable
from attestation.consensus.blocks import Kind
from attestation.consensus.chat import (
    RAISED,
    AssistantMessage,
    ChatLimits,
    ChatRequest,
    SystemMessage,
    ToolMessage,
    UserMessage,
)
from foundation.secrecy import Prompt
from tests.unit.appliance.orders import chat_payload, ordered


def said(request: OrderedRequest, limits: ChatLimits = RAISED) -> list[Say]:
    return list(answer(ScriptedEngine(), request, limits))


def words(says: list[Say]) -> bytes:
    return b"".join(say.words for say in says if isinstance(say, Piece))


@given(st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Zl", "Zp"]), max_size=80))
def test_an_answer_is_its_pieces_and_one_end(text: str) -> None:
    says = said(ordered(text))
    *pieces, end = says
    assert isinstance(end, Answered)
    assert all(isinstance(piece, Piece) for piece in pieces)
    assert words(says) in {opening + text.encode() for opening in OPENINGS}
    assert end == Answered(1, 0, Finish.STOP, len(f"user:{text}\n".encode()), len(words(says)))


def test_the_same_request_gives_the_same_messages() -> None:
    request = ordered("again", number=7)
    assert said(request) == said(request)


@pytest.mark.parametrize(
    "other", [{"caller": b"\x05"}, {"link": b"\x01" * 32}, {"certified_time_ns": 99}, {"block_time_ns": 98},
              {"request_digest": b"\x02" * 32}],
)
def test_nothing_but_the_request_beacon_and_id_enters(other: dict[str, object]) -> None:
    """window.md N9, order.md O30: certified time least of all."""
    request = ordered("again")
    assert said(replace(request, **other)) == said(request)  # type: ignore[arg-type]
    assert seed_of(replace(request, **other)) == seed_of(request)  # type: ignore[arg-type]


def test_the_seed_is_what_the_specification_says() -> None:
    request = ordered(number=258, beacon=b"\x09" * 32)
    expected = sha256(b"\x12anchorhold/seed/v1" + b"\x09" * 32 + (258).to_bytes(8, "big")).digest()
    assert seed_of(request) == expected
    assert seed_of(replace(request, height=9, index=3)) == expected
    assert len({seed_of(replace(request, id=number)) for number in range(50)}) == 50
    assert seed_of(replace(request, beacon=bytes(32))) != expected
    assert seed_of(replace(request, id=2**64 - 1)) != expected


def test_a_sealed_request_is_unanswerable_whatever_it_holds() -> None:
    for payload in (b"", b"\xff", chat_payload("readable all the same")):
        request = ordered(kind=Kind.SEALED, payload=payload, height=4, index=2)
        assert said(request) == [Unanswerable(4, 2, SEALED_UNSUPPORTED)]


@pytest.mark.parametrize(
    ("payload", "code"),
    [
        (b"", "chat.encoding"),
        (b"canary", "chat.encoding"),
        (b"\xa0", "chat.request"),
        (bytes(RAISED.payload_bytes + 1), "chat.payload-size"),
        (ChatRequest("m", (), None).encode(), "chat.messages"),
        (chat_payload("x", 2**40), "chat.max-tokens"),
    ],
)
def test_a_payload_that_is_no_chat_keeps_its_place(payload: bytes, code: str) -> None:
    """window.md N9, order.md O13: one refusal, one code, no word of the payload."""
    says = said(ordered(payload=payload, height=3, index=1))
    assert says == [Unanswerable(3, 1, code)]


@given(st.integers(1, 120))
def test_max_tokens_is_kept_to_and_said(most: int) -> None:
    whole = words(said(ordered("a line of some length, longer than one piece")))
    says = said(ordered("a line of some length, longer than one piece", max_tokens=most))
    end = says[-1]
    assert isinstance(end, Answered)
    assert words(says) == whole[:most]
    assert end.tokens_out == min(most, len(whole))
    assert end.finish is (Finish.LENGTH if most <= len(whole) else Finish.STOP)


def test_without_max_tokens_the_profile_bounds() -> None:
    short = replace(RAISED, max_tokens=5)
    says = said(ordered("more than five"), short)
    assert (len(words(says)), says[-1]) == (5, Answered(1, 0, Finish.LENGTH, len(b"user:more than five\n"), 5))


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

    says = answer(Slow(), ordered(), RAISED)
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
        (SystemMessage(Prompt(b"be brief\nuser:not a user")), UserMessage(Prompt(b"hi")),
         AssistantMessage(None, ()), AssistantMessage(Prompt(b"so"), ()), ToolMessage(Prompt(b"42"), Prompt(b"id"))),
    )
    says = list(answer(Listening(), ordered(payload=request.encode()), RAISED))
    prompt = b"system:be brief user:not a user\nuser:hi\nassistant:\nassistant:so\ntool:42\n"
    assert bytes(asked[0].prompt) == prompt
    assert says == [Answered(1, 0, Finish.STOP, len(prompt), 0)]
    assert asked[0].max_tokens == RAISED.max_tokens


def test_an_engine_request_shows_neither_prompt_nor_seed() -> None:
    """secrecy.md S2"""
    shown = repr(EngineRequest(tuple(b"canary"), 3, b"canary"))
    assert "canary" not in shown
    assert str(tuple(b"canary")) not in shown
