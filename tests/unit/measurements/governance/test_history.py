"""Decisions by a charter, and the one way a history grows: governance.md V3 to V6, V8 to V12."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from foundation import candid, cbor
from foundation.refusal import Refused
from measurements.governance.actions import (
    PAYLOAD,
    Action,
    Adopt,
    AmendCharter,
    Payload,
    RevokeChips,
    RotateKey,
    Withdraw,
)
from measurements.governance.authority import Chain, Chartered, authority_digest, encode_authority, parse_authority
from measurements.governance.charter import Charter, Member
from measurements.governance.decision import CertifiedReply, Decision, Signatures
from measurements.governance.errors import AuthorityRefused, DecisionRefused, GovernanceRefused, PayloadRefused
from measurements.governance.history import History, Ledger, Standing
from measurements.release.errors import ReleaseDocumentRefused
from measurements.release.heights import Heights
from tests.charters import AUTHORITY, KEEPERS, advance, charter, decide, no_chain, public
from tests.releases import digest, made_manifest

FIRST = made_manifest()
SECOND = made_manifest("0.2.0", FIRST)
ENDED = made_manifest(last=400)
EMPTY = Ledger.begin(AUTHORITY)
ONE, _ = advance(EMPTY, Adopt(FIRST))
TWO, _ = advance(ONE, Adopt(SECOND))
CHIP = b"\x07" * 64
KEY = "default/model-key/tiny"


def refusal(ledger: Ledger, decision: Decision) -> str:
    with pytest.raises((GovernanceRefused, ReleaseDocumentRefused)) as caught:
        ledger.advance(decision, no_chain)
    return caught.value.code


def test_a_release_is_adopted_superseded_and_withdrawn() -> None:
    ledger, decided = advance(TWO, Withdraw("0.2.0", SECOND.digest, "it leaks"), by=("cyd", "ada"))
    assert decided.position == 3
    assert sorted(decided.by) == ["ada", "cyd"]
    assert decided.digest == ledger.head
    assert {name: held.standing for name, held in ledger.releases.items()} == {
        "0.1.0": Standing.SUPERSEDED,
        "0.2.0": Standing.WITHDRAWN,
    }
    assert ledger.releases["0.1.0"].heights == Heights(1, 500)
    assert ledger.releases["0.2.0"].heights == Heights(501, None)
    assert ledger.releases["0.1.0"].adoption == ONE.head
    assert ledger.newest is None
    after, _ = advance(ledger, Adopt(made_manifest("0.3.0")))
    assert after.newest is not None
    assert after.newest.manifest.version == "0.3.0"
    assert [held.heights for held in after.releases.values()] == [
        Heights(1, 500),
        Heights(501, 1000),
        Heights(1001, None),
    ]  # a withdrawn one's blocks are its own, too


def test_chips_and_keys_are_decided_like_releases() -> None:
    ledger, _ = advance(EMPTY, RevokeChips((CHIP,), "extracted"))
    ledger, _ = advance(ledger, RotateKey(KEY, 2, "a backup was lost"))
    assert ledger.chips == {CHIP}
    assert ledger.least_versions == {KEY: 2}


SENSELESS: dict[str, tuple[Ledger, Action, str]] = {
    "an older version": (TWO, Adopt(made_manifest("0.1.5", SECOND)), "manifest.supersedes"),
    "a version again": (ONE, Adopt(replace(FIRST, price=replace(FIRST.price, request=1))), "release.downgrade"),
    "a version below the highest": (
        advance(TWO, Withdraw("0.2.0", SECOND.digest, "bad"))[0],
        Adopt(made_manifest("0.1.9")),
        "release.downgrade",
    ),
    "past the release in force": (TWO, Adopt(made_manifest("0.3.0", FIRST)), "release.supersedes"),
    "as if there were none": (ONE, Adopt(made_manifest("0.3.0")), "release.supersedes"),
    "as if there were one": (EMPTY, Adopt(SECOND), "release.supersedes"),
    "a withdrawn image under a new name": (
        advance(ONE, Withdraw("0.1.0", FIRST.digest, "bad"))[0],
        Adopt(replace(FIRST, version="0.3.0", serves=SECOND.serves)),
        "release.measurement",
    ),
    "the block of another": (ONE, Adopt(made_manifest("0.2.0", FIRST, first=1)), "release.heights"),
    "a block before another's": (TWO, Adopt(made_manifest("0.3.0", SECOND, first=300)), "release.heights"),
    "the last block of another": (
        advance(EMPTY, Adopt(ENDED))[0],
        Adopt(made_manifest("0.2.0", ENDED, first=400)),
        "release.heights",
    ),
    "a block of one that was withdrawn": (
        advance(ONE, Withdraw("0.1.0", FIRST.digest, "bad"))[0],
        Adopt(made_manifest("0.2.0", first=1)),
        "release.heights",
    ),
    "withdrawing what nobody adopted": (ONE, Withdraw("0.2.0", SECOND.digest, "bad"), "release.unknown"),
    "withdrawing by another manifest": (ONE, Withdraw("0.1.0", SECOND.digest, "bad"), "release.unknown"),
    "withdrawing twice": (
        advance(ONE, Withdraw("0.1.0", FIRST.digest, "bad"))[0],
        Withdraw("0.1.0", FIRST.digest, "again"),
        "release.withdrawn",
    ),
    "revoking a chip twice": (
        advance(ONE, RevokeChips((CHIP,), "bad"))[0],
        RevokeChips((CHIP,), "again"),
        "chips.revoked",
    ),
    "rotating a key back": (advance(ONE, RotateKey(KEY, 3, "lost"))[0], RotateKey(KEY, 2, "back"), "key.version"),
    "the same charter": (ONE, AmendCharter(KEEPERS), "charter.same"),
}


@pytest.mark.parametrize("name", SENSELESS)
def test_what_cannot_be_done_any_more_is_refused(name: str) -> None:
    """governance.md V10, V11, V23."""
    ledger, action, code = SENSELESS[name]
    assert refusal(ledger, decide(ledger, action)) == code


# -- place: governance.md V6


def test_a_decision_has_one_place() -> None:
    first, second = decide(EMPTY, Adopt(FIRST)), decide(ONE, Adopt(SECOND))
    assert refusal(ONE, first) == "history.replayed"
    assert refusal(TWO, first) == "history.replayed"
    assert refusal(EMPTY, second) == "history.gap"
    assert refusal(ONE, decide(EMPTY, Adopt(made_manifest("0.9.0")))) == "history.fork"
    other, _ = advance(EMPTY, RevokeChips((CHIP,), "another history"))
    assert refusal(ONE, decide(other, Adopt(made_manifest("0.9.0")))) == "history.fork"
    assert refusal(TWO, decide(ONE, Adopt(made_manifest("0.9.0", FIRST)))) == "history.fork"


def test_another_authoritys_decision_is_not_one_of_these() -> None:
    other = Ledger.begin(Chartered(charter("ada", "ben", "cyd", title="another body of the same people")))
    assert refusal(EMPTY, decide(other, Adopt(FIRST))) == "history.fork"
    moved = Decision(EMPTY.next_payload(Adopt(FIRST)).encode(), decide(other, Adopt(FIRST)).proof)
    assert refusal(EMPTY, moved) == "charter.signature"


# -- authority: governance.md V8, V9


@pytest.mark.parametrize("by", [(), ("ada",), ("cyd",)])
def test_too_few_voices_decide_nothing(by: tuple[str, ...]) -> None:
    assert refusal(EMPTY, decide(EMPTY, Adopt(FIRST), by)) == "charter.threshold"


def test_a_stranger_among_them_spoils_it() -> None:
    assert refusal(EMPTY, decide(EMPTY, Adopt(FIRST), ("ada", "ben", "mallory"))) == "charter.member"


def test_one_bad_signature_spoils_it() -> None:
    decision = decide(EMPTY, Adopt(FIRST), ("ada", "ben", "cyd"))
    assert isinstance(decision.proof, Signatures)
    bad = {**decision.proof.by_key, public("cyd"): bytes(64)}
    assert refusal(EMPTY, Decision(decision.payload, Signatures(bad))) == "charter.signature"


def test_a_charter_is_not_asked_by_certificate_nor_a_chain_by_signature() -> None:
    reply = CertifiedReply(b"", b"", b"\x04", 1, None)
    payload = EMPTY.next_payload(Adopt(FIRST)).encode()
    assert refusal(EMPTY, Decision(payload, reply)) == "authority.kind"
    chain = Ledger.begin(Chain(bytes(96), b"\x01", "get_proposal", 1000))
    assert refusal(chain, decide(chain, Adopt(FIRST))) == "authority.kind"
    with pytest.raises(GovernanceRefused) as caught:
        chain.rehearse(AmendCharter(KEEPERS), bytes(32))
    assert caught.value.code == "charter.none"


def test_whoever_hands_over_agrees_and_whoever_takes_over_has_their_keys() -> None:
    heirs = charter("cyd", "dan", "eve", title="heirs")
    amendment = AmendCharter(heirs)
    assert refusal(ONE, decide(ONE, amendment, ("ada", "ben"))) == "charter.threshold"
    assert refusal(ONE, decide(ONE, amendment, ("dan", "eve"))) == "charter.threshold"
    ledger, decided = advance(ONE, amendment, ("ada", "ben", "dan", "eve"))
    assert set(decided.by) == {"ada", "ben"}
    assert refusal(ledger, decide(ledger, Adopt(SECOND), ("ada", "ben"))) == "charter.member"
    advance(ledger, Adopt(SECOND), ("dan", "eve"))


@pytest.mark.parametrize(
    ("bad", "code"),
    [
        (charter("ada", "ben", threshold=1), "charter.threshold"),
        (charter("ada", "ben", "cyd", threshold=4), "charter.threshold"),
        (replace(KEEPERS, members=KEEPERS.members[::-1]), "charter.members"),
        (replace(KEEPERS, members=(*KEEPERS.members, KEEPERS.members[-1])), "charter.members"),
        (replace(KEEPERS, name=" "), "charter.name"),
        (replace(KEEPERS, members=(Member("anyone", b"\x01" + bytes(31)), *KEEPERS.members)), "charter.key"),
        (replace(KEEPERS, members=(*KEEPERS.members, Member("nobody", b"\xff" * 32))), "charter.key"),
    ],
)
def test_a_charter_in_which_two_groups_could_decide_apart_is_none(bad: Charter, code: str) -> None:
    with pytest.raises(ReleaseDocumentRefused) as caught:
        Charter.parse(bad.encode())
    assert caught.value.code == code


def test_authorities_read_back() -> None:
    for authority in (AUTHORITY, Chain(b"\x01" * 96, b"\x02\x01\x01", "get_proposal", 1000)):
        assert parse_authority(encode_authority(authority)) == authority


# -- payload: governance.md V4


@pytest.mark.parametrize(
    "action",
    [
        Adopt(FIRST),
        Adopt(ENDED),
        Withdraw("0.1.0", FIRST.digest, "why"),
        RevokeChips((b"\1" * 8, CHIP), "why"),
        RotateKey(KEY, 2, "why"),
        AmendCharter(KEEPERS),
    ],
    ids=lambda action: type(action).__name__,
)
def test_payloads_read_back_and_have_one_encoding(action: Action) -> None:
    payload = Payload(1, bytes(32), action)
    assert Payload.parse(payload.encode()) == payload
    wider = candid.Record({**{name: of for _, name, of in PAYLOAD.fields}, "more": candid.NULL})
    [value] = candid.decode([PAYLOAD], payload.encode())
    with pytest.raises(PayloadRefused) as caught:
        Payload.parse(candid.encode([wider], [{**value, "more": None}]))
    assert caught.value.code == "payload.form"


@pytest.mark.parametrize(
    ("payload", "code"),
    [
        (Payload(0, bytes(32), Adopt(FIRST)), "payload.format"),
        (Payload(1, bytes(31), Adopt(FIRST)), "payload.previous"),
        (Payload(1, bytes(32), Withdraw("1", FIRST.digest, "x")), "payload.withdraw"),
        (Payload(1, bytes(32), Withdraw("0.1.0", b"", "x")), "payload.withdraw"),
        (Payload(1, bytes(32), Withdraw("0.1.0", FIRST.digest, "")), "payload.reason"),
        (Payload(1, bytes(32), Withdraw("0.1.0", FIRST.digest, "two\nlines")), "payload.reason"),
        (Payload(1, bytes(32), RevokeChips((), "x")), "payload.chips"),
        (Payload(1, bytes(32), RevokeChips((bytes(9),), "x")), "payload.chips"),
        (Payload(1, bytes(32), RevokeChips((CHIP, bytes(63) + b"\1"), "x")), "payload.chips"),
        (Payload(1, bytes(32), RevokeChips((bytes(64),), "x")), "payload.chips"),
        (Payload(1, bytes(32), RotateKey("key", 2, "x")), "payload.rotate-key"),
        (Payload(1, bytes(32), RotateKey(KEY, 1, "x")), "payload.rotate-key"),
    ],
    ids=str,
)
def test_payloads_that_say_nothing_are_refused(payload: Payload, code: str) -> None:
    with pytest.raises(PayloadRefused) as caught:
        Payload.parse(payload.encode())
    assert caught.value.code == code


# -- whole histories: governance.md V12

DECISIONS = (
    decide(EMPTY, Adopt(FIRST)),
    decide(ONE, Adopt(SECOND)),
    decide(TWO, Withdraw("0.1.0", FIRST.digest, "it leaks"), ("ada", "ben", "cyd")),
)
HISTORY = History(AUTHORITY, DECISIONS)
RAW = HISTORY.encode()
TRUSTED = authority_digest(AUTHORITY)


def outcome(raw: bytes, *known: bytes) -> str:
    """The head it leads to in hexadecimal, or the code of its refusal; any other exception fails the test."""
    try:
        ledger, _ = History.parse(raw).verify(TRUSTED, no_chain, known)
    except Refused as refused:
        return refused.code
    return ledger.head.hex()


def test_a_history_is_proven_from_its_beginning() -> None:
    ledger, decided = HISTORY.verify(TRUSTED, no_chain, [ONE.head])
    assert History.parse(RAW) == HISTORY
    assert [each.position for each in decided] == [1, 2, 3]
    assert ledger.digests[:2] == TWO.digests
    assert outcome(RAW, ledger.head) == ledger.head.hex()


def test_what_was_seen_elsewhere_must_be_in_it() -> None:
    short = History(AUTHORITY, DECISIONS[:2]).encode()
    assert outcome(short) == TWO.head.hex()
    assert outcome(short, bytes.fromhex(outcome(RAW))) == "history.rollback"
    assert outcome(RAW, digest("another history")) == "history.rollback"


def test_another_authoritys_history_is_refused_whole() -> None:
    with pytest.raises(GovernanceRefused) as caught:
        HISTORY.verify(bytes(32), no_chain)
    assert caught.value.code == "history.authority"


@given(st.permutations(range(3)))
def test_reordered_histories_are_refused(order: list[int]) -> None:
    found = outcome(History(AUTHORITY, tuple(DECISIONS[at] for at in order)).encode())
    assert found == outcome(RAW) if order == [0, 1, 2] else found in ("history.gap", "history.replayed")


@given(st.lists(st.integers(0, 2), max_size=5))
def test_spliced_histories_are_refused(picked: list[int]) -> None:
    found = outcome(History(AUTHORITY, tuple(DECISIONS[at] for at in picked)).encode())
    whole = picked == list(range(len(picked)))
    assert whole == (len(found) == 64)
    assert whole or found in ("history.gap", "history.replayed")


@given(st.integers(0, len(RAW) - 1))
def test_truncated_histories_are_refused(size: int) -> None:
    assert outcome(RAW[:size]).startswith("history.cbor")


@settings(deadline=None)
@given(st.integers(0, 8 * len(RAW) - 1))
def test_every_bit_of_a_history_counts(bit: int) -> None:
    raw = bytearray(RAW)
    raw[bit // 8] ^= 1 << bit % 8
    found = outcome(bytes(raw))
    assert found.split(".")[0] in ("history", "decision", "payload", "charter", "authority", "manifest", "launch")


@settings(deadline=None)
@given(st.integers(0, 2), st.integers(0, 2), st.data())
def test_parts_of_one_decision_do_not_fit_another(first: int, second: int, data: st.DataObject) -> None:
    """A payload under another's signatures, or with a piece of another's bytes in it."""
    one, other = DECISIONS[first], DECISIONS[second]
    at = data.draw(st.integers(0, min(len(one.payload), len(other.payload)) - 1))
    spliced = Decision(one.payload[:at] + other.payload[at:], one.proof)
    moved = Decision(one.payload, other.proof)
    for bent in (spliced, moved):
        if bent == one:
            continue
        ledger = (EMPTY, ONE, TWO)[first]
        with pytest.raises(Refused):
            ledger.advance(bent, no_chain)


@pytest.mark.parametrize(
    "value",
    [
        [2, b"", [0, {}]],
        [1, b"", [0, {}]],
        [1, b"", [0, {bytes(31): bytes(64)}]],
        [1, b"", [0, {bytes(32): bytes(63)}]],
        [1, b"", [2, {}]],
        [1, b"", [0, {1: 2}]],
        [True, b"", [0, {bytes(32): bytes(64)}]],
        [1, b"", [1, b"", []]],
        [1, b"", [1, b"", [b"", b"", True, None]]],
        7,
        [],
    ],
    ids=str,
)
def test_files_that_are_no_decision_are_refused(value: cbor.Encodable) -> None:
    """governance.md V5."""
    with pytest.raises(DecisionRefused) as caught:
        Decision.parse(cbor.encode(value))
    assert caught.value.code in ("decision.shape", "decision.signatures")


def test_a_decision_has_one_name_whoever_signed_the_copy() -> None:
    """governance.md V5: receipts of every cell must cite the same digest."""
    heads = {
        EMPTY.advance(decide(EMPTY, Adopt(FIRST), by), no_chain)[0].head
        for by in (("ada", "ben"), ("ben", "cyd"), ("ada", "ben", "cyd"))
    }
    assert len(heads) == 1


def test_an_unsound_key_is_a_refusal() -> None:
    with pytest.raises(AuthorityRefused):
        KEEPERS.check(bytes(32), {member.key: bytes(64) for member in KEEPERS.members})
