"""answer.md A3 to A21 on known bytes, with the derivations written out a second time."""

from __future__ import annotations

import hashlib
import hmac
import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCMSIV

from appliance.engine.scripted import ScriptedEngine
from appliance.model_runtime import ByteScript, ModelRuntime
from appliance.service_keys import Rings
from appliance.serving.answer_pipeline import Answering, Terms
from appliance.serving.receipts import ReceiptBook
from appliance.serving.window import Answered, Piece
from attestation.consensus.blocks import Kind, Request
from attestation.consensus.chat_limits import RAISED
from attestation.receipts.outcome import Finish
from attestation.receipts.price import FREE
from attestation.receipts.signed_receipt import SignedReceipt
from attestation.sealed.buckets import billed_in
from attestation.sealed.frames import AnswerKeys, FrameReader
from attestation.sealed.request import Mode, Place, SealedRequest, unseal
from attestation.sealed.ring import Ring
from foundation import cbor
from foundation.secrecy import Prompt, Secret
from tests.unit.appliance.orders import BY, RECEIPT_KEY, ordered

ROOT = Path(__file__).resolve().parents[4]
CASES: list[dict[str, Any]] = json.loads((ROOT / "tests/vectors/answer.json").read_text())["cases"]
SPEC = ROOT / "docs/spec/answer.md"


def of(case: dict[str, Any], name: str) -> bytes:
    return bytes.fromhex(case[name])


@pytest.fixture(params=range(len(CASES)))
def case(request: pytest.FixtureRequest) -> dict[str, Any]:
    return CASES[request.param]


def opened(case: dict[str, Any]) -> tuple[Ring, Place]:
    return Ring.parse(Secret(of(case, "ring"))), Place(of(case, "gateway"), of(case, "model_root"))


def test_a_request_opens_to_what_was_sealed(case: dict[str, Any]) -> None:
    """answer.md A4, A5, A11, A12"""
    ring, place = opened(case)
    assert ring.keys[0].key.public.id == of(case, "key_id")
    inside = unseal(of(case, "payload"), ring, place, height=case["height"], caller=of(case, "caller"))
    assert inside.encode() == of(case, "inside")
    assert inside.mode is Mode(case["mode"])
    assert (inside.caller is None) is (case["bound_caller"] is None)


def test_the_info_is_what_the_specification_says(case: dict[str, Any]) -> None:
    """answer.md A5: written out."""
    _, place = opened(case)
    request = SealedRequest.parse(of(case, "payload"))
    assert request.info(place) == cbor.encode(
        [
            "anchorhold/sealed-request/v1",
            of(case, "gateway"),
            of(case, "model_root"),
            of(case, "key_id"),
            case["expiry"],
            case["suite"],
        ]
    )


def test_the_keys_of_the_answer(case: dict[str, Any]) -> None:
    """answer.md A14: HKDF by hand (RFC 5869), with no salt and two blocks."""
    info = cbor.encode(
        [
            "anchorhold/answer-key/v2",
            of(case, "config"),
            of(case, "gateway"),
            case["height"],
            case["index"],
            case["id"],
            of(case, "request_digest"),
        ]
    )
    extracted = hmac.digest(bytes(32), b"\x21" * 32, hashlib.sha256)
    first = hmac.digest(extracted, info + b"\x01", hashlib.sha256)
    second = hmac.digest(extracted, first + info + b"\x02", hashlib.sha256)
    assert (first, second) == (of(case, "answer_key"), of(case, "salt"))
    digest = Request(case["id"], of(case, "caller"), Kind.SEALED, Prompt(of(case, "payload"))).digest()
    assert digest == of(case, "request_digest")


def test_the_frames_by_hand(case: dict[str, Any]) -> None:
    """answer.md A15 to A19"""
    cipher = AESGCMSIV(of(case, "answer_key"))
    frames = [bytes.fromhex(frame) for frame in case["frames"]]
    words = of(case, "words")
    said = b""
    for number, frame in enumerate(frames):
        last = number == len(frames) - 1
        plain = cipher.decrypt(bytes([0, 0, 0, last]) + number.to_bytes(8, "big"), frame, None)
        length = int.from_bytes(plain[:2], "big")
        assert plain[2 + length :] == bytes(128 - length)
        if last:
            salt, finish, tokens_in, tokens_out, _, _ = cbor.decode(plain[2 : 2 + length])  # type: ignore[misc]
            assert (salt, finish) == (of(case, "salt"), 0)
            assert (tokens_in, tokens_out) == (case["tokens_in"], case["tokens_out"])
        else:
            assert plain[2 : 2 + length] == words[16 * number : 16 * number + 16]  # one byte to a token here
            said += plain[2 : 2 + length]
    assert said == words
    assert {len(frame) for frame in frames} == {146}
    assert len(frames) == case["rung"] // 16 + 1


def test_a_client_reads_it(case: dict[str, Any]) -> None:
    keys = AnswerKeys(Secret(of(case, "answer_key")), of(case, "salt"))
    reader = FrameReader(keys)
    assert b"".join(reader.feed(bytes.fromhex(frame)) for frame in case["frames"]) == of(case, "words")
    outcome = reader.end()
    assert (outcome.finish, outcome.tokens_in, outcome.tokens_out) == (
        Finish.STOP,
        case["tokens_in"],
        case["tokens_out"],
    )


def test_a_cell_says_these_very_frames(case: dict[str, Any]) -> None:
    """answer.md A1: the pipeline of the cell, at this place."""
    ring, place = opened(case)
    terms = Terms(place.gateway, RAISED, True, place, frozenset({"demo"}))
    runtime = ModelRuntime(ScriptedEngine(), ByteScript())
    cell = Answering(runtime, ReceiptBook(RECEIPT_KEY, BY, place.gateway, FREE), terms, Rings(ring))
    for index in range(case["index"]):
        list(cell.answer(ordered(height=case["height"], index=index)))
    request = Request(case["id"], of(case, "caller"), Kind.SEALED, Prompt(of(case, "payload")))
    placed = replace(
        ordered(
            height=case["height"],
            index=case["index"],
            number=case["id"],
            kind=Kind.SEALED,
            payload=of(case, "payload"),
            beacon=of(case, "beacon"),
            caller=of(case, "caller"),
        ),
        request_digest=request.digest(),
    )
    *pieces, end = cell.answer(placed)
    assert [piece.words.hex() for piece in pieces if isinstance(piece, Piece)] == case["frames"]
    assert isinstance(end, Answered)
    receipt = SignedReceipt.parse(end.receipt).receipt
    assert (receipt.tokens_in, receipt.tokens_out) == (billed_in(len(of(case, "inside"))), case["rung"])


def test_the_example_of_the_specification() -> None:
    """answer.md: the hexadecimal at its top is the beginning of what stands in the vector, in this order."""
    case = CASES[0]
    blocks = SPEC.read_text(encoding="utf-8").split("```")[1:4:2]
    for block, raw in zip(blocks, (case["payload"], case["inside"]), strict=True):
        at = 0
        for line in block.strip().splitlines():
            found = re.match(r"([0-9a-f]+)", line)
            assert found is not None
            at = raw.index(found[1], at)
