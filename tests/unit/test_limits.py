"""One table of limits for gateway, cell, window and host: what a cell says, the window carries and the gateway takes.

order.md O12, text.md L30, window.md N1, N20.
"""

from __future__ import annotations

import re
from typing import Final

import pytest

from anchorhold.host.answer_reports import CompletedAnswer, deliver
from anchorhold.host.gateway_client import GatewayRefused
from appliance.serving.run_queue import BACKLOG_BYTES_MAX, MESSAGE_COST_BYTES
from appliance.serving.window import (
    Answered,
    Checkpoint,
    Declined,
    Judged,
    Piece,
    Say,
    Standing,
    Supply,
    encode_ask,
    encode_say,
)
from attestation.auditor import audit_bundle
from attestation.consensus.blocks import BODY_BYTES_MAX, HEADER_BYTES_MAX, Block
from attestation.consensus.chat_limits import RAISED
from attestation.receipts.body import BODY_BYTES_MAX as RECEIPT_BODY_BYTES_MAX
from attestation.receipts.checkpoint import NOTE_BYTES_MAX
from attestation.receipts.outcome import Finish, Outcome
from attestation.receipts.signed_receipt import SIGNED_BYTES_MAX, SignedReceipt, sign
from attestation.sealed.buckets import STEP
from attestation.sealed.frames import FRAME_BYTES, AnswerKeys, FrameWriter
from devnet.gateway import ARTEFACTS
from devnet.lone_gateway import OWNER, REPORTER, receipt_for
from foundation import limits
from foundation.secrecy import Prompt, Secret
from tests.gateways import Bench, caller
from tests.little_receipts import raw, receipt_key
from vsock_bridge.limits import Limits
from vsock_bridge.ports import PORT_LIMITS, Port

OF_THE_TABLE: Final = {name: value for name, value in vars(limits).items() if name.isupper()}
NOT_THE_GATEWAYS: Final = {
    "MILLION",
    "WORDS_BYTES_MAX",
    "ITEM_BYTES_MAX",
    "SAY_BYTES_MAX",
    "PIECE_BYTES_MAX",
    "DECLINED_CHARACTERS_MAX",
}
CONSTANT: Final = re.compile(r"public let (\w+) : \w+ = ([\d_]+);")
IC_MESSAGE_BYTES_MAX: Final = 2 << 20  # of a call to a canister and of its reply, on the Internet Computer
CANDID_BYTES_MAX: Final = 1_024  # around the blobs of a report or an answer
STREAM: Final = PORT_LIMITS[Port.STREAM]
UINT: Final = (1 << 64) - 1


def in_the_gateway(name: str) -> str:
    first, *rest = name.lower().split("_")
    return first + "".join(word.capitalize() for word in rest)


def test_the_gateway_states_the_numbers_of_the_table() -> None:
    source = (ARTEFACTS / "src" / "Limits.mo").read_text(encoding="utf-8")
    stated = {name: int(number.replace("_", "")) for name, number in CONSTANT.findall(source)}
    assert len(stated) == source.count("public let")
    shared = {in_the_gateway(name): OF_THE_TABLE[name] for name in OF_THE_TABLE.keys() - NOT_THE_GATEWAYS}
    assert {name: stated.get(name) for name in shared} == shared


def test_the_gateway_that_is_installed_has_them() -> None:
    said = Bench().gateway.limits()
    assert said["answer_bytes_max"] == limits.ANSWER_BYTES_MAX
    assert said["tokens_max"] == limits.TOKENS_MAX
    assert said["payload_bytes_max"] == limits.PAYLOAD_BYTES_MAX


def test_the_window_carries_every_ask_and_every_say() -> None:
    assert STREAM.item_bytes_max == limits.ITEM_BYTES_MAX
    assert STREAM.chunk_bytes == Limits().chunk_bytes == limits.SAY_BYTES_MAX
    assert len(encode_ask(Supply(bytes(BODY_BYTES_MAX)))) <= limits.ITEM_BYTES_MAX


@pytest.mark.parametrize(
    "largest",
    [
        Standing(UINT, bytes(32), UINT, UINT),
        Judged("overlapped", UINT, UINT, UINT),
        Piece(UINT, UINT, bytes(limits.PIECE_BYTES_MAX)),
        Piece(UINT, UINT, bytes(FRAME_BYTES)),
        Answered(UINT, UINT, bytes(SIGNED_BYTES_MAX)),
        Checkpoint(UINT, bytes(NOTE_BYTES_MAX)),
        Declined("c" * 200, "\U0001f642" * limits.DECLINED_CHARACTERS_MAX),
    ],
    ids=lambda say: type(say).__name__,
)
def test_the_largest_of_each_say_fits_one_frame(largest: Say) -> None:
    assert len(encode_say(largest)) <= limits.SAY_BYTES_MAX


def test_the_gateway_takes_the_largest_answer_in_the_clear_and_sealed() -> None:
    """A sealed answer is longest where every token is silent and all words come with the end."""
    assert limits.WORDS_BYTES_MAX <= limits.ANSWER_BYTES_MAX
    writer = FrameWriter(AnswerKeys(Secret(bytes(32)), bytes(32)))
    frames = [frame for _ in range(limits.TOKENS_MAX) if (frame := writer.feed(b"")) is not None]
    assert len(frames) == limits.TOKENS_MAX // STEP
    writer.hear_rest(bytes(limits.WORDS_BYTES_MAX))
    outcome = Outcome(Finish.LENGTH, 1, limits.TOKENS_MAX, bytes(32), bytes(32))
    largest = FRAME_BYTES * (len(frames) + len(writer.end(outcome)[1]))
    assert largest <= limits.ANSWER_BYTES_MAX
    assert RAISED.max_tokens == limits.TOKENS_MAX


def test_a_report_and_a_reply_fit_a_message_of_the_internet_computer() -> None:
    assert RECEIPT_BODY_BYTES_MAX <= limits.RECEIPT_BYTES_MAX
    report = limits.ANSWER_BYTES_MAX + limits.RECEIPT_BYTES_MAX + limits.SIGNATURE_BYTES_MAX + CANDID_BYTES_MAX
    assert report <= limits.ARGUMENT_BYTES_MAX <= IC_MESSAGE_BYTES_MAX
    reply = report + (limits.SIGNATURES_MAX - 1) * limits.SIGNATURE_BYTES_MAX
    assert reply <= IC_MESSAGE_BYTES_MAX


def test_a_block_of_the_gateway_fits_a_body_and_its_answers_are_kept() -> None:
    around = 64 * limits.BLOCK_REQUESTS_MAX + HEADER_BYTES_MAX
    assert limits.BLOCK_PAYLOAD_BYTES_MAX + around <= BODY_BYTES_MAX == limits.SLICE_BYTES_MAX
    assert limits.PAYLOAD_BYTES_MAX <= limits.BLOCK_PAYLOAD_BYTES_MAX
    messages = limits.ANSWER_BYTES_MAX // FRAME_BYTES + 2
    assert limits.ANSWER_BYTES_MAX + messages * (MESSAGE_COST_BYTES + 64) <= BACKLOG_BYTES_MAX
    assert limits.ANSWER_BYTES_MAX <= audit_bundle.ANSWER_BYTES_MAX


def _told(block: Block, index: int, answer: bytes) -> CompletedAnswer:
    key = receipt_key("cell a")
    signed = sign(receipt_for(block, index, answer), key, raw(key))
    return CompletedAnswer(Prompt(answer), SignedReceipt.parse(signed), signed)


def test_an_answer_that_the_gateway_refuses_keeps_no_other_back() -> None:
    gateway = Bench().gateway
    for number in range(3):
        gateway.submit_sealed(caller(number), b"x")
    gateway.seal_block(OWNER)
    block = Block.decode(gateway.get_slice(1).encoded[0])
    sizes = (1, limits.ANSWER_BYTES_MAX + 1, limits.ANSWER_BYTES_MAX)
    told = [_told(block, index, bytes(size)) for index, size in enumerate(sizes)]
    delivered = deliver(told, lambda report: gateway.report_answer(REPORTER, report))
    assert [each.outcome for each in delivered[::2]] == ["recorded", "recorded"]
    assert [each.place for each in delivered] == [(1, 0), (1, 1), (1, 2)]
    refusal = delivered[1].outcome
    assert isinstance(refusal, GatewayRefused)
    assert refusal.code == "answer.bytes"
    assert "answer 1/1: " in str(delivered[1])
    assert str(limits.ANSWER_BYTES_MAX) in str(delivered[1])


def test_what_the_gateway_does_not_count_has_no_bound_of_its_own() -> None:  # order.md O12
    assert RAISED.text_bytes >= RAISED.payload_bytes
    assert RAISED.items >= RAISED.payload_bytes
