"""One ordered request becomes its answer. Pure: the same request gives the same messages on every cell."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from appliance.engine.protocol import Engine, EngineRequest
from appliance.ordering.sequencer import OrderedRequest
from appliance.text import pieces, render
from appliance.window import Answered, Finish, Piece, Say, Unanswerable
from attestation.consensus.blocks import Kind
from attestation.consensus.chat import ChatLimits, ChatRefused, ChatRequest
from foundation.digests import tagged_sha256

PIECE_TOKENS: Final = 16
SEALED_UNSUPPORTED: Final = "sealed.unsupported"


def seed_of(request: OrderedRequest) -> bytes:
    """All randomness of an answer: the block's beacon, drawn after the request was fixed, and the request's id."""
    return tagged_sha256("anchorhold/seed/v1", request.beacon, request.id.to_bytes(8, "big"))


def answer(engine: Engine, request: OrderedRequest, limits: ChatLimits) -> Iterator[Say]:
    """What is said about `request`: pieces and their end, or one refusal that keeps its place (order.md O13)."""
    height, index = request.height, request.index
    if request.kind is not Kind.PLAIN:
        yield Unanswerable(height, index, SEALED_UNSUPPORTED)
        return
    try:
        chat = ChatRequest.decode(request.payload, limits)
    except ChatRefused as refusal:
        yield Unanswerable(height, index, refusal.code)
        return
    asked = chat.sampling.max_tokens if chat.sampling and chat.sampling.max_tokens else limits.max_tokens
    job = EngineRequest(render(chat), asked, seed_of(request))
    said = 0
    for words, tokens in pieces((step.token for step in engine.run(job)), PIECE_TOKENS):
        said += tokens
        yield Piece(height, index, words)
    yield Answered(height, index, Finish.LENGTH if said >= asked else Finish.STOP, len(job.prompt), said)
