"""What a quote binds: fixed vectors, and no way for one purpose, key or nonce to stand for another."""

from __future__ import annotations

import base64
import hashlib
import json
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from attestation.errors import EvidenceRefused
from attestation.evidence.keyset import KeysetDigest
from attestation.evidence.kinds import TeeKind
from attestation.report_data import (
    Purpose,
    Statement,
    UnfitReportData,
    additional_evidence,
    canonical_json,
    carried_statement,
    devices_digest,
    identity_device_nonce,
    identity_report_data,
    release_device_nonce,
    release_report_data,
)

NONCE = bytes(range(32))
NONCE_TEXT = base64.b64encode(NONCE).decode()
KEY = {"kty": "EC", "crv": "P-256", "alg": "ECDH-ES+A256KW", "x": "AAAA", "y": "BBBB"}
IDENTITY = Statement(Purpose.IDENTITY, TeeKind.SNP, NONCE, KeysetDigest(b"\x0a" * 32), b"\x0b" * 32)
RELEASE = replace(IDENTITY, purpose=Purpose.RELEASE)


def refused(action: object) -> str:
    with pytest.raises(UnfitReportData) as caught:
        action()  # type: ignore[operator]
    return caught.value.code


def test_identity_by_hand():  # evidence-production.md E118, E119
    """The bytes of the rule, written out: [1, 1, "snp", nonce, keyset, configuration, devices]."""
    devices = hashlib.sha256(b"\x15anchorhold/devices/v1\x80").digest()
    encoded = (
        b"\x87\x01\x01\x63snp\x58\x20"
        + NONCE
        + b"\x58\x20"
        + b"\x0a" * 32
        + b"\x58\x20"
        + b"\x0b" * 32
        + b"\x58\x20"
        + devices
    )
    assert IDENTITY.encode() == encoded
    tag = b"anchorhold/report-data/identity/v1"
    assert identity_report_data(IDENTITY) == hashlib.sha512(bytes([len(tag)]) + tag + encoded).digest()


def test_one_module_makes_the_bytes():  # evidence-production.md E118
    """Whoever asks for a quote and whoever judges it compute alike, because neither has the rule itself."""
    root = Path(__file__).resolve().parents[3]
    rooms = ("foundation", "attestation", "appliance", "devnet", "anchorhold")
    sources = [path for room in rooms for path in (root / room).rglob("*.py")]
    texts = {path.relative_to(root).as_posix(): path.read_text() for path in sources}
    for rule in ("anchorhold/report-data/", "anchorhold/devices/", "anchorhold/device-nonce/", '"additional-evidence"'):
        assert [path for path, text in texts.items() if rule in text] == ["attestation/report_data.py"], rule


def test_identity_vector():  # evidence-production.md E119
    assert identity_report_data(IDENTITY).hex() == (
        "168699487499be9a3fff3f7956d760f3c6bdaf543bf28557bd206755a9b047b7"
        "440ec9e426c62392e3d69095bc4886157c7c89ee7e6ca163f4abd6b36bd28d26"
    )


def test_release_by_hand():  # evidence-production.md E120
    additional = additional_evidence(RELEASE)
    member = base64.urlsafe_b64encode(RELEASE.encode()).decode().rstrip("=")
    assert additional == f'{{"anchorhold":"{member}"}}'
    text = (
        '{"additional-evidence":"{\\"anchorhold\\":\\"' + member + '\\"}","nonce":"' + NONCE_TEXT + '",'
        '"tee-pubkey":{"alg":"ECDH-ES+A256KW","crv":"P-256","kty":"EC","x":"AAAA","y":"BBBB"}}'
    )
    expected = hashlib.sha384(text.encode()).digest() + bytes(16)
    assert release_report_data(NONCE_TEXT, KEY, additional) == expected


def test_release_vector():  # evidence-production.md E120
    assert release_report_data(NONCE_TEXT, KEY, additional_evidence(RELEASE)).hex() == (
        "0aeb73076fd17725733e534d8e992386b0144578e88494514682db713004076e"
        "cd72aff81c26e2f87e6923693c60fa8100000000000000000000000000000000"
    )


def test_a_device_signs_the_digest_without_the_additional_evidence():  # evidence-production.md E121
    text = canonical_json({"nonce": NONCE_TEXT, "tee-pubkey": KEY})
    assert release_device_nonce(NONCE_TEXT, KEY) == hashlib.sha384(text.encode()).digest()[:32]


def test_an_identity_device_nonce_by_hand():  # evidence-production.md E121
    tag = b"anchorhold/device-nonce/identity/v1"
    encoded = b"\x82\x58\x20" + NONCE + b"\x58\x20" + b"\x0a" * 32
    assert (
        identity_device_nonce(NONCE, KeysetDigest(b"\x0a" * 32))
        == hashlib.sha256(bytes([len(tag)]) + tag + encoded).digest()
    )


def test_device_reports_cannot_be_regrouped():  # evidence-production.md E121
    assert len({devices_digest(each) for each in ([], [b""], [b"ab"], [b"a", b"b"], [b"b", b"a"])}) == 5


def test_a_client_without_additional_evidence_is_bound_as_the_protocol_says():
    text = canonical_json({"additional-evidence": "", "nonce": NONCE_TEXT, "tee-pubkey": KEY})
    assert release_report_data(NONCE_TEXT, KEY, "")[:48] == hashlib.sha384(text.encode()).digest()


CHANGES = {
    "purpose": {"purpose": Purpose.RELEASE},
    "kind": {"kind": TeeKind.TDX},
    "simulated": {"kind": TeeKind.SIMULATED_SNP},
    "nonce": {"nonce": bytes(32)},
    "keyset": {"keyset": KeysetDigest(bytes(32))},
    "config": {"measured_config": bytes(32)},
    "devices": {"devices": devices_digest([b"a GPU's report"])},
    "keyset and config exchanged": {"keyset": KeysetDigest(b"\x0b" * 32), "measured_config": b"\x0a" * 32},
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=list(CHANGES))
def test_every_part_of_a_statement_is_bound(change: dict[str, object]):  # evidence-production.md E118
    other = replace(IDENTITY, **change)  # type: ignore[arg-type]
    assert other.encode() != IDENTITY.encode()
    if other.purpose is Purpose.IDENTITY:
        assert identity_report_data(other) != identity_report_data(IDENTITY)
    else:
        assert refused(lambda: identity_report_data(other)) == "report-data.purpose"


def test_purposes_never_mix():  # evidence-production.md E120
    assert refused(lambda: identity_report_data(RELEASE)) == "report-data.purpose"
    assert refused(lambda: additional_evidence(IDENTITY)) == "report-data.purpose"
    smuggled = json.dumps({"anchorhold": base64.urlsafe_b64encode(IDENTITY.encode()).decode().rstrip("=")})
    assert refused(lambda: carried_statement(smuggled, NONCE_TEXT)) == "report-data.purpose"
    release = release_report_data(NONCE_TEXT, KEY, additional_evidence(RELEASE))
    assert release[48:] == bytes(16) != identity_report_data(IDENTITY)[48:]


def test_the_statement_comes_back_out_of_the_additional_evidence():
    assert carried_statement(additional_evidence(RELEASE), NONCE_TEXT) == RELEASE
    beside = additional_evidence(RELEASE, {"nvidia": "[...]"})
    assert json.loads(beside)["nvidia"] == "[...]"
    assert carried_statement(beside, NONCE_TEXT) == RELEASE


def test_a_statement_given_twice_is_refused():
    member = additional_evidence(RELEASE).strip("{}")
    assert carried_statement("{" + member + "}", NONCE_TEXT) == RELEASE
    assert refused(lambda: carried_statement("{" + f"{member},{member}" + "}", NONCE_TEXT)) == (
        "report-data.additional"
    )


def test_nobody_else_may_speak_under_our_name():
    assert refused(lambda: additional_evidence(RELEASE, {"anchorhold": "x"})) == "report-data.member"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{}",
        "[]",
        "null",
        "1e999",
        '{"anchorhold":1}',
        '{"anchorhold":"!"}',
        '{"anchorhold":""}',
        "{",
        "[" * 99999,
        '{"anchorhold":"AA","anchorhold":"AA"}',
        '{"anchorhold":"\u00e9"}',
        additional_evidence(RELEASE).replace('"}', '="}'),
        additional_evidence(RELEASE).replace('"}', ' "}'),
    ],
)
def test_additional_evidence_without_a_sound_statement(text: str):  # evidence-production.md E120
    assert refused(lambda: carried_statement(text, NONCE_TEXT)).startswith("report-data.")


@pytest.mark.parametrize("nonce", [base64.b64encode(bytes(32)).decode(), "", "not base64", "é", NONCE_TEXT[:-4]])
def test_a_statement_over_another_nonce(nonce: str):  # evidence-production.md E120
    assert refused(lambda: carried_statement(additional_evidence(RELEASE), nonce)).startswith("report-data.")


def test_additional_evidence_has_a_bound():
    room = 256 * 1024 - len(additional_evidence(RELEASE, {"nvidia": ""}))
    assert carried_statement(additional_evidence(RELEASE, {"nvidia": "x" * room}), NONCE_TEXT) == RELEASE
    huge = additional_evidence(RELEASE, {"nvidia": "x" * (room + 1)})
    assert refused(lambda: carried_statement(huge, NONCE_TEXT)) == "report-data.additional"


@pytest.mark.parametrize(
    "change",
    [
        {"nonce": bytes(15)},
        {"nonce": bytes(65)},
        {"keyset": KeysetDigest(bytes(31))},
        {"measured_config": bytes(33)},
        {"devices": bytes(31)},
        {"purpose": Purpose.RELEASE, "nonce": bytes(31)},
        {"purpose": Purpose.RELEASE, "nonce": bytes(64)},
    ],
)
def test_sizes(change: dict[str, object]):  # evidence-production.md E118
    assert refused(lambda: replace(IDENTITY, **change)) == "report-data.length"  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"\x86",
        IDENTITY.encode() + b"\0",
        IDENTITY.encode()[:-1],
        b"\x87\xf5" + IDENTITY.encode()[2:],  # true for the version
        b"\x87\x01\xf5" + IDENTITY.encode()[3:],  # true for the purpose
        b"\x87\x02" + IDENTITY.encode()[2:],
        b"\x87\x01\x03" + IDENTITY.encode()[3:],
        IDENTITY.encode().replace(b"snp", b"sgx"),
        b"\x86" + IDENTITY.encode()[1:],
        b"\x80",
        b"\xa0",
    ],
)
def test_a_statement_that_does_not_parse(raw: bytes):  # evidence-production.md E118
    assert refused(lambda: Statement.parse(raw)).startswith("report-data.")


statements = st.builds(
    Statement,
    st.just(Purpose.IDENTITY),
    st.sampled_from(TeeKind),
    st.binary(min_size=16, max_size=64),
    st.binary(min_size=32, max_size=32).map(KeysetDigest),
    st.binary(min_size=32, max_size=32),
    st.binary(min_size=32, max_size=32),
)


@given(statements)
def test_parsing_undoes_encoding(statement: Statement):
    assert Statement.parse(statement.encode()) == statement


@given(statements, statements)
def test_two_statements_never_share_their_data(one: Statement, other: Statement):
    assert (one == other) == (identity_report_data(one) == identity_report_data(other))


@given(st.binary(max_size=200))
def test_only_the_declared_refusal_leaves_a_statement(raw: bytes):
    with suppress(EvidenceRefused):
        assert Statement.parse(raw).encode() == raw


@given(st.text(max_size=200))
def test_only_the_declared_refusal_leaves_additional_evidence(text: str):
    with pytest.raises(UnfitReportData):
        carried_statement(text, NONCE_TEXT)


def test_canonical_json_orders_by_utf16_and_escapes_little():
    """RFC 8785 section 3.2.3: a surrogate pair sorts before U+FB33, though its code point is higher."""
    control = '\u0007"\\/\u007f\u2028'
    given_members = {"\ufb33": "1", "\U0001f600": "2", "\u20ac": "3", "\r": control, "1": ""}
    assert canonical_json(given_members) == (
        '{"\\r":"\\u0007\\"\\\\/\u007f\u2028","1":"","\u20ac":"3","\U0001f600":"2","\ufb33":"1"}'
    )


def test_a_lone_surrogate_has_no_canonical_form():
    assert refused(lambda: canonical_json({"a": "\ud800"})) == "report-data.text"
