"""answer.md A20 to A22: a client asks, a cell answers, the client opens; from the command line and from the library."""

from __future__ import annotations

import io
import json
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from anchorhold.client import AnswerRefused, Expected, KeysRefused, Question, Service, Taken, chat, open_plain
from anchorhold.command import main
from anchorhold.owner.broker_process import open_broker
from appliance.engine.scripted import ScriptedEngine
from appliance.serving.answer_pipeline import Answering
from appliance.serving.window import Answered, Piece
from attestation.broker.service import held
from attestation.consensus.blocks import Kind, Request
from attestation.consensus.principal import to_text
from attestation.receipts.errors import ReceiptRefused
from attestation.receipts.outcome import Finish
from attestation.receipts.price import PriceSchedule
from attestation.receipts.signed_receipt import SignedReceipt
from attestation.sealed.ring import Offer, Ring
from attestation.sealed.suites import SuiteId
from devnet.chain import CALLER
from devnet.subnet import GATEWAY
from foundation.secrecy import Prompt, Secret
from measurements.release.heights import Heights
from tests.releases import made_manifest
from tests.unit.appliance.orders import BY, MODEL_ROOT, RECEIPT_KEY, answering, ordered

KEY = RECEIPT_KEY.public_key().public_bytes_raw()
OTHER_KEY = bytes.fromhex("d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a")
PRICE = PriceSchedule(10, 2, 3)
OFFER = [
    "--offer",
    "offer",
    "--broker",
    "",
    "--gateway",
    to_text(GATEWAY),
    "--model-root",
    MODEL_ROOT.hex(),
    "--model",
    "m",
]


@pytest.fixture
def offer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> tuple[bytes, Ring]:
    """A broker's first offer of a ring it made, and that ring as a cell gets it."""
    monkeypatch.chdir(tmp_path)
    assert main(["broker", "init", "b"]) == 0
    OFFER[3] = capsys.readouterr().out.strip()
    config = ["--config", "b/broker.toml"]
    assert main(["broker", "service", "make", "a/service-key/b", "--blocks", "100", "--overlap", "10", *config]) == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [(line["first"], line["last"], line["suite"]) for line in lines] == [
        (1, 110, "MLKEM768_X25519"),
        (101, 210, "MLKEM768_X25519"),
    ]
    assert main(["broker", "service", "rotate", "a/service-key/b", "--suite", "x25519", *config]) == 0
    assert [json.loads(line)["first"] for line in capsys.readouterr().out.splitlines()] == [1, 101, 201]
    assert main(["broker", "service", "offers", "a/service-key/b", *config]) == 0
    offers = [json.loads(line)["offer"] for line in capsys.readouterr().out.splitlines()]
    (tmp_path / "offer").write_text(offers[0] + "\n")
    opened = open_broker(Path("b/broker.toml"))
    ring = held(opened.store, opened.wrapping, "a/service-key/b")[1]
    opened.store.close()
    return bytes.fromhex(offers[0]), ring


@dataclass
class Run:
    """One request through a cell, and what the gateway would give back."""

    taken: Taken
    raw: bytes


def run(payload: bytes, ring: Ring | None, kind: Kind = Kind.SEALED, cell: Answering | None = None) -> Run:
    request = Request(7, CALLER, kind, Prompt(payload))
    placed = replace(
        ordered(height=3, number=7, kind=kind, payload=payload, caller=CALLER), request_digest=request.digest()
    )
    cell = cell or answering(ScriptedEngine(), ring=ring, price=PRICE)
    *pieces, end = cell.answer(placed)
    assert isinstance(end, Answered)
    signed = SignedReceipt.parse(end.receipt)
    answer = b"".join(piece.words for piece in pieces if isinstance(piece, Piece))
    return Run(Taken(3, 0, 7, answer, signed.body, signed.signature), end.receipt)


def test_from_the_command_line(
    offer: tuple[bytes, Ring], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO("Wer da? Żółw".encode())))
    ask = ["ask", *OFFER, "--expiry", "50", "--keep", "question", "--out", "payload", "--caller", to_text(CALLER)]
    assert main(ask) == 0
    assert (tmp_path / "question").stat().st_mode & 0o777 == 0o600  # answer.md A22
    done = run((tmp_path / "payload").read_bytes(), offer[1])
    (tmp_path / "answer").write_bytes(done.taken.answer)
    (tmp_path / "receipt").write_bytes(done.raw)
    opening = [
        "open",
        "--question",
        "question",
        "--answer",
        "answer",
        "--receipt",
        "receipt",
        "--caller",
        to_text(CALLER),
        "--key",
        KEY.hex(),
    ]
    capsys.readouterr()
    assert main([*opening, "--release", BY.release, "--config", BY.config.hex(), "--profile", BY.profile.hex()]) == 0
    assert capsys.readouterr().out.endswith("Wer da? Żółw\n")
    assert main([*opening, "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert (shown["finish"], shown["tokens_in"], shown["height"]) == ("stop", 64, 3)
    named = made_manifest("0.2.0", made_manifest(), first=3)
    (tmp_path / "manifest").write_bytes(named.encode())
    (tmp_path / "next").write_bytes(made_manifest("0.3.0", named, first=4).encode())
    assert main([*opening, "--manifest", "manifest", "--release", BY.release]) == 1
    assert main([*opening, "--manifest", "next", "--successor", "manifest"]) == 1
    assert main([*opening, "--manifest", "manifest", "--successor", "next"]) == 5  # it is not of that release
    for wrong in (["--release", "r-2"], ["--config", "00" * 32], ["--key", OTHER_KEY.hex()]):
        assert main([*opening, *wrong]) == 5
    (tmp_path / "answer").write_bytes(done.taken.answer[:-146])
    assert main(opening) == 5
    told = capsys.readouterr()
    assert told.out == ""
    assert "Wer da" not in told.err
    assert main(ask) == 1  # what is kept is not written over
    another = [part.replace("payload", "p2").replace("question", "q2") for part in ask]
    assert main([*another, "--broker", "11" * 32]) == 2
    assert not (tmp_path / "q2").exists()


def second_release_at_one_position(question: Question, ring: Ring) -> str:
    """The code with which a client refuses block 3 of a release that has to begin at block 4."""
    manifest = made_manifest("0.2.0", made_manifest(), first=4, model_root=MODEL_ROOT, measured_config=BY.config)
    by = replace(BY, release="0.2.0", profile=manifest.engine.profile or b"")
    price = PriceSchedule(manifest.price.request, manifest.price.token_in, manifest.price.token_out)
    taken = run(question.payload, ring, cell=answering(ScriptedEngine(), ring=ring, by=by, price=price)).taken
    try:
        question.open(taken, KEY, Expected.of(manifest), caller=CALLER)
    except ReceiptRefused as refusal:
        return refusal.code
    return "believed"


def test_an_answer_of_a_release_outside_its_blocks_is_refused(offer: tuple[bytes, Ring]) -> None:
    """answer.md A24"""
    question = service(offer).ask(chat("m", "hello"), expiry=50, caller=CALLER)
    assert second_release_at_one_position(question, offer[1]) == "receipt.heights"


def service(offer: tuple[bytes, Ring]) -> Service:
    return Service.checked(offer[0], bytes.fromhex(OFFER[3]), gateway=GATEWAY, model_root=MODEL_ROOT)


def opened(question: Question, taken: Taken, key: bytes = KEY, **expected: object) -> bytes:
    return question.open(taken, key, Expected(**expected), caller=CALLER).words.reveal()  # type: ignore[arg-type]


def test_every_part_of_what_came_back_counts(offer: tuple[bytes, Ring]) -> None:
    """answer.md A20, A21"""
    question = service(offer).ask(chat("m", "hello", system="be brief"), expiry=50, caller=CALLER)
    taken = run(question.payload, offer[1]).taken
    assert opened(question, taken, price=PRICE, model_root=MODEL_ROOT, release=BY.release).endswith(b"hello")
    answer = taken.answer
    for changed in (
        replace(taken, height=4),
        replace(taken, index=1),
        replace(taken, id=8),
        replace(taken, answer=b""),
        replace(taken, answer=answer[:-1]),
        replace(taken, answer=answer[146:]),
        replace(taken, answer=answer + answer),
        replace(taken, answer=answer[146:292] + answer[:146] + answer[292:]),
        replace(taken, receipt=taken.receipt[:-1] + bytes([taken.receipt[-1] ^ 1])),
        replace(taken, signature=bytes(64)),
    ):
        with pytest.raises((AnswerRefused, ReceiptRefused)):
            opened(question, changed)
    for expected in ({"price": PriceSchedule(1, 1, 1)}, {"release": "r-2"}, {"fingerprint": bytes(32)}):
        with pytest.raises(ReceiptRefused):
            opened(question, taken, **expected)
    assert opened(question, taken, heights=Heights(3, 3)).endswith(b"hello")
    with pytest.raises(ReceiptRefused):
        opened(question, taken, OTHER_KEY)
    with pytest.raises(ReceiptRefused):
        question.open(taken, KEY, Expected(), caller=b"\x05")
    other = service(offer).ask(chat("m", "hello"), expiry=50)
    with pytest.raises(ReceiptRefused):
        opened(other, taken)
    with pytest.raises(AnswerRefused):  # with a receipt that holds, and another reply key
        opened(replace(question, reply_key=Secret(bytes(32))), taken)
    with pytest.raises(ReceiptRefused, match="tokens"):
        opened(replace(question, room=512), taken)


def test_a_refusal_is_an_answer_with_a_receipt(offer: tuple[bytes, Ring]) -> None:
    question = service(offer).ask(chat("m", "hello"), expiry=2)
    answer = question.open(run(question.payload, offer[1]).taken, KEY, Expected(), caller=CALLER)
    assert (answer.refused, answer.finish, answer.words) == (True, "sealed.expired", Prompt(b""))
    taken = run(question.payload, offer[1]).taken
    with pytest.raises(AnswerRefused):
        opened(question, replace(taken, answer=b"words all the same"))


def test_a_plain_answer_is_checked_alike() -> None:
    payload = chat("m", "hello").encode()
    taken = run(payload, None, Kind.PLAIN).taken
    kept = {"gateway": GATEWAY, "caller": CALLER, "payload": payload}
    answer = open_plain(taken, KEY, Expected(price=PRICE), **kept)  # type: ignore[arg-type]
    assert (answer.finish, answer.words.reveal().endswith(b"hello")) == (Finish.STOP, True)
    for other in ({"payload": chat("m", "hallo").encode()}, {"caller": b"\x05"}, {"gateway": b"\x05"}):
        with pytest.raises(ReceiptRefused):
            open_plain(taken, KEY, Expected(), **{**kept, **other})  # type: ignore[arg-type]
    with pytest.raises(ReceiptRefused):
        open_plain(replace(taken, answer=taken.answer + b"!"), KEY, Expected(), **kept)  # type: ignore[arg-type]


def test_a_question_is_kept_and_read_again(offer: tuple[bytes, Ring]) -> None:
    """answer.md A22"""
    question = service(offer).ask(chat("m", "hello"), expiry=50)
    kept = question.encode()
    assert Question.parse(kept) == question
    assert question.reply_key.reveal().hex() not in repr(question)
    for raw in (b"", kept.reveal()[:-1], kept.reveal() + b"\0", b"\x80"):
        with pytest.raises(AnswerRefused):
            Question.parse(Secret(raw))


def test_a_key_is_not_used_beyond_its_blocks(offer: tuple[bytes, Ring]) -> None:
    """answer.md A6, A7"""
    for expiry in (0, 111):
        with pytest.raises(KeysRefused):
            service(offer).ask(chat("m", "hello"), expiry=expiry)
    assert Offer.checked(offer[0], bytes.fromhex(OFFER[3])).key.suite is SuiteId.MLKEM768_X25519
