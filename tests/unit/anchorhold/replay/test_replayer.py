"""audit.md U50 to U54: what a cell said is computed again, and where it cannot be, in what and how far it differs."""

from __future__ import annotations

from dataclasses import replace

import pytest

from anchorhold.client.hand_over import HandedOver
from anchorhold.replay.replayer import Openings, Record, Replayed, Replayer, findings_of, records, refused_engine
from appliance.engine.protocol import EngineRequest, Sampling
from appliance.engine.trace import Trace
from appliance.model_runtime import ModelRuntime
from appliance.service_keys import Rings
from appliance.serving.answer_pipeline import Answering, Terms
from appliance.serving.receipts import ReceiptBook
from appliance.serving.window import Answered, Piece
from appliance.text import End, render
from attestation.auditor.audit import audit
from attestation.auditor.errors import AuditRefused
from attestation.auditor.findings import FindingStanding, Status
from attestation.consensus.blocks import Kind
from attestation.consensus.chat import ChatRequest, UserMessage
from attestation.consensus.chat import Sampling as ChatSampling
from attestation.consensus.chat_limits import RAISED
from attestation.receipts.outcome import Finish
from attestation.receipts.signed_receipt import SignedReceipt
from attestation.sealed.errors import AnswerRefused
from attestation.sealed.request import Mode, unseal
from attestation.sealed.ring import Ring
from devnet.subnet import GATEWAY
from foundation.secrecy import Prompt, Secret
from tests.fixed_models import engine
from tests.little_audit import PRICE, terms
from tests.little_receipts import receipt_key
from tests.little_replay import BLOCK, PLACE, BentEngine, WeighingEngine, bundle, config, ring, runtime
from tests.unit.appliance.orders import ordered

NOTHING = "nothing was computed: the request was refused on one side"
RECORDS = [record for record in records(bundle()) if record is not None]


def replayer(of: ModelRuntime | None = None, keys: Ring | None = None) -> Replayer:
    return Replayer(of or runtime(), config(), RECORDS[0].receipt, Openings(keys))


def plain(number: int) -> Record:
    return RECORDS[2 * BLOCK + number]


def test_the_bundle_of_these_tests_holds() -> None:
    assert audit(bundle().encode(), terms()).ok
    assert len(RECORDS) == 3 * BLOCK
    assert {record.receipt.refused for record in RECORDS} == {True, False}


def test_more_than_a_hundred_answers_come_out_again() -> None:  # audit.md U50
    again = replayer(keys=ring())
    again.check_engine(RECORDS[0].receipt)
    replayed = [again.replay(record) for record in RECORDS]
    assert len(replayed) > 100
    assert [each for each in replayed if not each.same] == []
    assert findings_of(replayed, len(replayed), len(replayed))[0].standing is FindingStanding.HOLDS


def test_nothing_that_ran_before_changes_a_replay() -> None:  # audit.md U50
    again = replayer(keys=ring())
    assert all(again.replay(record).same for record in reversed(RECORDS))


def test_a_sealed_answer_wants_its_keys() -> None:  # audit.md U52
    for record in RECORDS[BLOCK : 2 * BLOCK]:
        replayed = replayer().replay(record)
        assert (record.request.kind, replayed.same) == (Kind.SEALED, False)
        assert "nor a service key" in replayed.unread
    found = findings_of([replayer().replay(RECORDS[BLOCK])], 1, len(RECORDS))
    assert found[0].standing is FindingStanding.UNCHECKED


def handed(record: Record, **other: object) -> HandedOver:
    """What the client of that request can hand over."""
    payload = record.request.payload.reveal()
    key = ring()
    inside = unseal(payload, key, PLACE, height=record.request.height, caller=record.request.caller)
    return HandedOver.parse(HandedOver(payload, replace(inside, **other)).encode())  # type: ignore[arg-type]


def with_handed(record: Record, **other: object) -> Replayed:
    openings = Openings(handed=[handed(record, **other)])
    return Replayer(runtime(), config(), RECORDS[0].receipt, openings).replay(record)


def test_what_a_client_handed_over_comes_out_again_and_nothing_else_is_read() -> None:  # audit.md U56
    first, second = [each for each in RECORDS[BLOCK : 2 * BLOCK] if not each.receipt.refused][:2]
    assert with_handed(first).same
    openings = Openings(handed=[handed(first)])
    assert Replayer(runtime(), config(), RECORDS[0].receipt, openings).replay(second).unread


def test_another_chat_or_reply_key_than_was_sealed_gives_another_answer() -> None:  # audit.md U56
    record = next(each for each in RECORDS[BLOCK : 2 * BLOCK] if not each.receipt.refused)
    other = ChatRequest("scripted-1", (UserMessage(Prompt(b"what was never asked")),)).encode()
    assert "answer" in with_handed(record, chat=Prompt(other)).differs
    assert "answer" in with_handed(record, reply_key=Secret(bytes(32))).differs
    assert with_handed(record, caller=b"\x01" * 29).detail == NOTHING


def test_with_the_service_keys_a_client_s_word_is_held_to_the_payload() -> None:  # audit.md U56
    record = next(each for each in RECORDS[BLOCK : 2 * BLOCK] if not each.receipt.refused)
    other = Mode.STREAM if handed(record).inside.mode is Mode.WHOLE else Mode.WHOLE

    def replayed(mode: Mode, keys: Ring | None) -> Replayed:
        openings = Openings(keys, [handed(record, mode=mode)])
        return Replayer(runtime(), config(), RECORDS[0].receipt, openings).replay(record)

    assert replayed(handed(record).inside.mode, ring()).same
    assert replayed(other, None).same  # both modes say the same frames
    assert replayed(other, ring()).detail == NOTHING


def test_only_what_was_handed_over_is_read_as_that() -> None:  # audit.md U56
    raw = handed(next(each for each in RECORDS[BLOCK : 2 * BLOCK] if not each.receipt.refused)).encode().reveal()
    for wrong in (b"", raw[:-1], raw + b"\0", raw[:1] + b"\x02" + raw[2:]):
        with pytest.raises(AnswerRefused, match="handed"):
            HandedOver.parse(Secret(wrong))


def test_another_engine_or_profile_is_named_before_anything_is_computed() -> None:  # audit.md U51
    for by in ({"profile": b"\x99" * 32}, {"fingerprint": b"\x99" * 32}):
        receipt = replace(RECORDS[1].receipt, by=replace(RECORDS[1].receipt.by, **by))  # type: ignore[arg-type]
        with pytest.raises(AuditRefused, match=next(iter(by))) as refused:
            replayer().check_engine(receipt)
        assert refused_engine(refused.value).status is Status.LOG


def test_the_first_token_that_differs_is_named() -> None:  # audit.md U53
    replayed = replayer(runtime(BentEngine(17))).replay(plain(1))
    assert replayed.differs == "answer, outcome"
    assert replayed.detail.startswith("first at token 17 of ")
    assert "does not say what it weighed" in replayed.detail
    finding = findings_of([replayed], 1, 1)[0]
    assert (finding.standing, finding.status, finding.code) == (FindingStanding.FAILS, Status.LOG, "replay.answer")


def test_and_by_how_much_each_side_was_preferred() -> None:  # audit.md U53
    detail = replayer(runtime(WeighingEngine(17))).replay(plain(1)).detail
    assert "below the greatest logit: the replay's token by 0, the recorded one by 0.25" in detail


def test_a_sealed_answer_s_first_difference_is_named_too() -> None:  # audit.md U53
    record = next(each for each in RECORDS[BLOCK:] if not each.receipt.refused)
    detail = replayer(runtime(WeighingEngine(3)), ring()).replay(record).detail
    assert detail.startswith("first at token 3 of ")


def test_the_same_words_on_another_way_differ() -> None:  # audit.md U53
    replayed = replayer(runtime(BentEngine(4, token=None, weighs=1.0))).replay(plain(1))
    assert replayed.differs == "outcome"
    assert "the way to them" in replayed.detail


def test_an_answer_that_stops_short_differs_at_its_end() -> None:  # audit.md U53
    record = plain(1)
    longer = replace(
        record, said=(record.said or b"") + b" and more", receipt=replace(record.receipt, answer=b"\x99" * 32)
    )
    detail = replayer().replay(longer).detail
    assert detail.startswith("first at token ")


def test_without_the_recorded_words_the_difference_has_no_token() -> None:  # audit.md U53
    record = replace(plain(1), said=None)
    assert replayer().replay(record).same
    assert "not shown" in replayer(runtime(BentEngine(2))).replay(record).detail


def test_bytes_that_are_not_the_receipt_s_differ() -> None:  # audit.md U50
    assert replayer().replay(replace(plain(1), said=b"other")).differs == "bytes shown"


def test_a_refusal_that_was_recorded_as_an_answer_differs() -> None:  # audit.md U50
    refused = next(record for record in RECORDS if record.receipt.refused and record.request.kind is Kind.PLAIN)
    swapped = replace(plain(1), request=refused.request)
    replayed = replayer().replay(swapped)
    assert "finish" in replayed.differs
    assert replayed.detail.startswith("nothing was computed")


def test_no_finding_quotes_what_was_asked_or_said() -> None:  # audit.md U54
    for bent in (BentEngine(17), WeighingEngine(17), BentEngine(4, token=None, weighs=1.0)):
        replayed = replayer(runtime(bent), ring()).replay(plain(1))
        shown = repr(replayed) + repr(findings_of([replayed], 1, 1)) + repr(plain(1))
        assert "question" not in shown
        assert "Heard" not in shown


def test_what_could_not_be_read_is_counted() -> None:  # audit.md U52
    found = findings_of([Replayed((1, 0)), Replayed((2, 0), unread="why")], 2, 9)[0]
    assert found.got == "1 of 9, 2 chosen; 1 could not be read"
    assert findings_of([], 0, 0)[0].standing is FindingStanding.UNCHECKED


# -- with an engine that computes


class NumberScript:
    """Bytes in; every token said is its number."""

    sampling = Sampling()
    stop_tokens: frozenset[int] = frozenset()

    def prompt(self, chat: ChatRequest) -> tuple[int, ...]:
        return render(chat)[-60:]

    def room(self, prompt: tuple[int, ...], asked: int | None, most: int) -> int:
        return min(asked or most, 161 - len(prompt))

    def speaker(self, chat: ChatRequest) -> NumberSpeaker:
        return NumberSpeaker()


class NumberSpeaker:
    stopped = False

    def feed(self, token: int) -> bytes:
        return b"%03d " % token

    def end(self, *, full: bool) -> End:
        return End(b"", Finish.LENGTH if full else Finish.STOP)


def computed(of: ModelRuntime, count: int = 6) -> list[Record]:
    """What a cell with this runtime says of a few questions, at temperatures 0, 0.7 and 1."""
    by = replace(RECORDS[0].receipt.by, profile=of.profile, fingerprint=of.engine.fingerprint)
    book = ReceiptBook(receipt_key("computes"), by, GATEWAY, PRICE)
    answering = Answering(of, book, Terms(GATEWAY, RAISED, names=config().names), Rings())
    found = []
    for number in range(count):
        sampling = ChatSampling(temperature_micro=(0, 700_000, 1_000_000)[number % 3], max_tokens=20)
        chat = ChatRequest("scripted-1", (UserMessage(Prompt(b"question %d" % number)),), sampling=sampling)
        request = ordered("", number=number, index=number, payload=chat.encode())
        *pieces, end = answering.answer(request)
        assert isinstance(end, Answered)
        said = b"".join(piece.words for piece in pieces if isinstance(piece, Piece))
        found.append(Record(request, SignedReceipt.parse(end.receipt).receipt, said, None))
    return found


def test_the_fixed_engine_gives_its_answers_again_on_other_threads() -> None:  # audit.md U50
    recorded = computed(ModelRuntime(engine(), NumberScript()))
    elsewhere = engine(threads=2, rows_max=7, speculate=False)
    again = Replayer(ModelRuntime(elsewhere, NumberScript()), config(), recorded[0].receipt)
    again.check_engine(recorded[0].receipt)
    assert [again.replay(record) for record in recorded] == [Replayed(record.receipt.place) for record in recorded]


def test_what_the_engine_refuses_is_a_refusal_both_times() -> None:  # audit.md U50
    class Crowded(NumberScript):
        def prompt(self, chat: ChatRequest) -> tuple[int, ...]:
            return (1,) * 400

    of = ModelRuntime(engine(), Crowded())
    record = computed(of, 1)[0]
    assert record.receipt.finish == "engine.prompt-length"
    assert Replayer(of, config(), record.receipt).replay(record).same


@pytest.mark.parametrize("bits", ["int8", "int4"])
def test_another_quantization_is_named_and_where_it_first_shows(bits: str) -> None:  # audit.md U51, U53
    recorded = computed(ModelRuntime(engine(), NumberScript()))
    other = Replayer(ModelRuntime(engine(bits=bits), NumberScript()), config(), recorded[0].receipt)
    with pytest.raises(AuditRefused, match="fingerprint"):
        other.check_engine(recorded[0].receipt)
    replayed = [other.replay(record) for record in recorded]
    assert all(each.differs for each in replayed)  # the trace differs from the first step on
    tokens = [each.detail for each in replayed if each.detail.startswith("first at token")]
    assert all("below the greatest logit: the replay's token by" in detail for detail in tokens)
    assert len(tokens) + sum("the way to them" in each.detail for each in replayed) == len(replayed)
    assert bool(tokens) is (bits == "int4")  # 8 bits change no word of these, and every trace all the same


def test_what_an_engine_says_it_weighed_is_what_its_trace_covers() -> None:  # audit.md U53
    asked = EngineRequest(tuple(range(40)), 6, b"\x01" * 32)
    for of in (engine(), engine(bits="int4", speculate=False)):
        trace, said = Trace(), list(asked.prompt)
        for step in list(of.run(asked)):
            assert trace.step(step.token, of.leaders(said)) == step
            said.append(step.token)
