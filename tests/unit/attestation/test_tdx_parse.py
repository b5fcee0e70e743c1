"""The TDX parsers: every size accounts for every byte, and nothing but a refusal leaves them."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from attestation.errors import FormatRefused
from attestation.evidence.sgx_extension import PckIdentity
from attestation.evidence.tdx_collateral import TcbStatus, TdxCollateral, _advisories
from attestation.evidence.tdx_quote import AUTH_DATA_BYTES_MAX, QUOTE_BYTES_MAX, TdReportKind, TdxQuote
from foundation.document import Fields, json_fields, json_value
from tests.unit.attestation.forge_tdx import World, der, qe_identity, sgx_extension, tcb_info

WORLD = World()
QUOTE = WORLD.quote(mr_td=b"\x21" * 48, rtmrs=(b"\1" * 48, b"\2" * 48, b"\3" * 48, b"\4" * 48), xfam=0x3)


def put(at: int, value: bytes, data: bytes = QUOTE) -> bytes:
    return data[:at] + value + data[at + len(value) :]


def code(data: bytes) -> str:
    with pytest.raises(FormatRefused) as refused:
        TdxQuote.parse(data)
    return refused.value.code


def test_fields_stand_where_they_should() -> None:  # evidence-tdx.md E60, E61
    quote = TdxQuote.parse(QUOTE)
    assert quote.raw == QUOTE
    assert quote.signed == QUOTE[:632]
    assert quote.signature == QUOTE[636:700]
    assert quote.attestation_key == QUOTE[700:764]
    assert quote.report.mr_td == b"\x21" * 48
    assert [register[0] for register in quote.report.rtmrs] == [1, 2, 3, 4]
    assert (quote.report.xfam, quote.report.kind) == (0x3, TdReportKind.V1_0)
    assert quote.qe_auth_data == bytes(range(32))
    assert quote.pck_chain_pem.count(b"BEGIN") == 3


def test_a_report_of_version_1_5_has_two_more_fields() -> None:  # evidence-tdx.md E60
    data = WORLD.quote(version=5, service_td=b"\x09" * 48)
    quote = TdxQuote.parse(data)
    assert (quote.report.kind, quote.report.mr_service_td) == (TdReportKind.V1_5, b"\x09" * 48)
    assert quote.signed == data[: 48 + 6 + 648]


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (put(0, b"\3\0"), "tdx.version"),
        (put(0, b"\6\0"), "tdx.version"),
        (put(2, b"\3\0"), "tdx.key_type"),
        (put(4, bytes(4)), "tdx.tee_type"),
        (put(12, bytes(16)), "tdx.qe_vendor"),
        (put(0, b"\5\0"), "tdx.body_type"),
        (put(48, b"\4\0", WORLD.quote(version=5)), "tdx.body_type"),
        (put(48, b"\2\0", WORLD.quote(version=5)), "tdx.body_size"),
        (put(632, b"\xff\xff\xff\xff"), "tdx.truncated"),
        (put(764, b"\5\0"), "tdx.certification_type"),
        (put(766, (1 << 20).to_bytes(4, "little")), "tdx.certification_size"),
        (put(766, (0).to_bytes(4, "little")), "tdx.signature_data.trailing"),
        (put(770 + 448, (33).to_bytes(2, "little")), "tdx.certification_type"),
        (put(770 + 448, (AUTH_DATA_BYTES_MAX + 1).to_bytes(2, "little")), "tdx.auth_data"),
        (put(770 + 482, b"\6\0"), "tdx.certification_type"),
        (put(770 + 484, (1).to_bytes(4, "little")), "tdx.certification.trailing"),
        (put(770 + 484, (1 << 15).to_bytes(4, "little")), "tdx.certification_size"),
        (QUOTE + b"\0\0\1", "tdx.trailing"),
        (QUOTE + bytes(QUOTE_BYTES_MAX), "tdx.size"),
        (b"", "tdx.truncated"),
        (QUOTE[:-1], "tdx.truncated"),
    ],
)
def test_what_does_not_fit_is_refused(data: bytes, expected: str) -> None:  # evidence-tdx.md E60, E61, E63
    assert code(data) == expected


def test_a_version_5_quote_may_carry_the_older_report() -> None:  # evidence-tdx.md E60
    head = b"\5\0" + QUOTE[2:48] + b"\2\0" + (584).to_bytes(4, "little")
    quote = TdxQuote.parse(head + QUOTE[48:])
    assert (quote.header.version, quote.report) == (5, TdxQuote.parse(QUOTE).report)


def test_the_bounds_are_the_stated_ones() -> None:  # evidence-tdx.md E60, E61
    assert TdxQuote.parse(QUOTE.ljust(64 * 1024, b"\0")).raw == QUOTE
    assert code(QUOTE.ljust(64 * 1024 + 1, b"\0")) == "tdx.size"
    assert len(TdxQuote.parse(WORLD.quote(auth_bytes=1024)).qe_auth_data) == 1024
    assert code(WORLD.quote(auth_bytes=1025)) == "tdx.auth_data"


@settings(max_examples=300)
@given(st.integers(0, len(QUOTE)), st.binary(max_size=8), st.integers(0, 8))
def test_nothing_but_a_refusal_leaves_the_parser(at: int, inserted: bytes, removed: int) -> None:  # evidence-tdx.md E63
    data = QUOTE[:at] + inserted + QUOTE[at + removed :]
    try:
        quote = TdxQuote.parse(data)
    except FormatRefused:
        return
    assert data.startswith(quote.raw)
    assert not any(data[len(quote.raw) :])


@given(st.integers(0, len(QUOTE) - 1))
def test_no_shorter_quote_is_one(size: int) -> None:
    with pytest.raises(FormatRefused):
        TdxQuote.parse(QUOTE[:size])


def test_the_platform_extension_is_read_in_full() -> None:  # evidence-tdx.md E65
    svns = tuple(range(16))
    identity = PckIdentity.parse(sgx_extension(svns, pce_svn=0x1234))
    assert identity == PckIdentity(b"\x11" * 16, bytes.fromhex("00906ed50000"), b"\0\0", svns, 0x1234)


EXTENSION = sgx_extension()


@pytest.mark.parametrize(
    "spoil",
    [
        lambda data: data + b"\0",
        lambda data: data[:-1],
        lambda data: b"\x31" + data[1:],
        lambda data: der(0x30, data),
        lambda data: data.replace(bytes.fromhex("0d0101"), bytes.fromhex("0d0102"), 1),  # PPID as a second TCB
        lambda data: data.replace(bytes.fromhex("0d0104"), bytes.fromhex("0d0109"), 1),  # no FMSPC
        lambda data: data.replace(bytes.fromhex("0602"), bytes.fromhex("0402"), 1),
        lambda data: b"\x30\x83\x00" + len(data[4:]).to_bytes(2, "big") + data[4:],
        lambda _: der(0x30, b"\x30\x02\x06\x00"),
        lambda _: b"\x30\x80\0\0",
        lambda _: b"",
        lambda _: b"\x30\x81\x01\0",
    ],
)
# evidence-tdx.md E65
def test_another_shape_of_the_platform_extension_is_refused(spoil: Callable[[bytes], bytes]) -> None:
    spoiled = spoil(EXTENSION)
    assert spoiled != EXTENSION
    with pytest.raises(FormatRefused) as refused:
        PckIdentity.parse(spoiled)
    assert refused.value.code == "tdx.pck_extension"


def extension_refused(**changes: Any) -> str:
    with pytest.raises(FormatRefused) as refused:
        PckIdentity.parse(sgx_extension(**changes))
    return refused.value.expected


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"ppid": bytes(15)}, "field 1 of 16 bytes"),
        ({"ppid": bytes(17)}, "field 1 of 16 bytes"),
        ({"pce_id": bytes(1)}, "field 3 of 2 bytes"),
        ({"pce_id": bytes(3)}, "field 3 of 2 bytes"),
        ({"fmspc": bytes(5)}, "field 4 of 6 bytes"),
        ({"fmspc": bytes(7)}, "field 4 of 6 bytes"),
        ({"svns": (5,) * 15}, "field 16 with tag 0x2"),
        ({"svns": (256, *(5,) * 15)}, "an integer of 1 bytes"),
        ({"pce_svn": 1 << 16}, "an integer of 2 bytes"),
    ],
)
def test_each_platform_field_has_its_size(changes: dict[str, Any], expected: str) -> None:  # evidence-tdx.md E65
    assert extension_refused(**changes) == expected


def test_the_largest_numbers_of_a_platform_are_read() -> None:
    identity = PckIdentity.parse(sgx_extension((255,) * 16, pce_svn=0xFFFF))
    assert (identity.component_svns, identity.pce_svn) == ((255,) * 16, 0xFFFF)


@pytest.mark.parametrize("first", [b"\x02\x01\x80", b"\x02\x02\x00\x05", b"\x02\x00"])
def test_a_number_has_its_shortest_form(first: bytes) -> None:  # evidence-tdx.md E65
    assert extension_refused(first=first) == "a non-negative integer in shortest form"


@given(st.integers(0, len(EXTENSION) - 1), st.integers(1, 255))
def test_nothing_but_a_refusal_leaves_the_extension(at: int, change: int) -> None:
    data = EXTENSION[:at] + bytes([EXTENSION[at] ^ change]) + EXTENSION[at + 1 :]
    try:
        PckIdentity.parse(data)
    except FormatRefused:
        return


def collateral(**changes: Any) -> str:
    return json.dumps(WORLD.collateral() | changes)


def test_collateral_is_read_in_full() -> None:
    parsed = TdxCollateral.parse(collateral())
    assert parsed.tcb_info.evaluation_number == 20
    assert parsed.tcb_info.module_identities[0].identity == "TDX_01"
    assert parsed.tcb_info.levels[0].tdx_svns[:3] == (5, 1, 2)
    assert parsed.qe_identity.isv_prod_id == 2
    assert json.loads(parsed.tcb_info_signed.text) == tcb_info()


def without(document: dict[str, Any], name: str) -> dict[str, Any]:
    return {key: value for key, value in document.items() if key != name}


@pytest.mark.parametrize("name", [name for name in tcb_info() if name not in ("tdxModuleIdentities", "tcbType")])
def test_tcb_info_has_all_its_members(name: str) -> None:  # evidence-tdx.md E64
    with pytest.raises(FormatRefused):
        TdxCollateral.parse(collateral(tcb_info=json.dumps(without(tcb_info(), name))))


@pytest.mark.parametrize("name", list(qe_identity()))
def test_qe_identity_has_all_its_members(name: str) -> None:  # evidence-tdx.md E64
    with pytest.raises(FormatRefused):
        TdxCollateral.parse(collateral(qe_identity=json.dumps(without(qe_identity(), name))))


@pytest.mark.parametrize("name", list(WORLD.collateral()))
def test_collateral_has_all_its_members(name: str) -> None:  # evidence-tdx.md E64
    with pytest.raises(FormatRefused):
        TdxCollateral.parse(json.dumps(without(WORLD.collateral(), name)))


@pytest.mark.parametrize(
    "change",
    [
        {"id": "SGX"},
        {"version": 2},
        {"version": True},
        {"fmspc": "00"},
        {"fmspc": "zz906ED50000"},
        {"fmspc": " 00906ED50000"[:12]},
        {"issueDate": "yesterday"},
        {"tcbEvaluationDataNumber": -1},
        {"tcbEvaluationDataNumber": "20"},
        {"tcbLevels": {}},
        {"tcbLevels": [1]},
        {"tdxModuleIdentities": [{}]},
    ],
)
def test_tcb_info_of_another_shape_is_refused(change: dict[str, Any]) -> None:  # evidence-tdx.md E64
    with pytest.raises(FormatRefused):
        TdxCollateral.parse(collateral(tcb_info=json.dumps(tcb_info(**change))))


@pytest.mark.parametrize("change", [{"id": "QE"}, {"id": "TDX"}, {"version": 1}, {"version": 3}])
def test_a_qe_identity_of_another_kind_is_refused(change: dict[str, Any]) -> None:  # evidence-tdx.md E64
    with pytest.raises(FormatRefused) as refused:
        TdxCollateral.parse(collateral(qe_identity=json.dumps(qe_identity(**change))))
    assert refused.value.code == "tdx.qe_identity.id"


LEVEL, MODULE = tcb_info()["tcbLevels"][0], tcb_info()["tdxModuleIdentities"][0]
LISTS: dict[str, tuple[int, Callable[[int], dict[str, str]]]] = {
    "levels": (64, lambda n: {"tcb_info": json.dumps(tcb_info(tcbLevels=[LEVEL] * n))}),
    "modules": (64, lambda n: {"tcb_info": json.dumps(tcb_info(tdxModuleIdentities=[MODULE] * n))}),
    "enclave levels": (
        64,
        lambda n: {"qe_identity": json.dumps(qe_identity(tcbLevels=qe_identity()["tcbLevels"] * n))},
    ),
    "advisories": (
        256,
        lambda n: {"tcb_info": json.dumps(tcb_info(tcbLevels=[LEVEL | {"advisoryIDs": ["INTEL-SA-1"] * n}]))},
    ),
}


@pytest.mark.parametrize("name", LISTS)
def test_every_list_in_collateral_has_its_bound(name: str) -> None:  # evidence-tdx.md E64
    most, changed = LISTS[name]
    TdxCollateral.parse(collateral(**changed(most)))
    with pytest.raises(FormatRefused):
        TdxCollateral.parse(collateral(**changed(most + 1)))


def test_fifteen_components_are_not_sixteen() -> None:
    level = tcb_info()["tcbLevels"][0]
    level["tcb"]["sgxtcbcomponents"] = [{"svn": 5}] * 15
    with pytest.raises(FormatRefused):
        TdxCollateral.parse(collateral(tcb_info=json.dumps(tcb_info(tcbLevels=[level]))))


def test_a_status_is_one_of_intels() -> None:  # evidence-tdx.md E64
    assert TcbStatus.parse("UpToDate") is TcbStatus.UP_TO_DATE
    for word in ("Unlisted", "uptodate", ""):
        with pytest.raises(FormatRefused):
            TcbStatus.parse(word)


@pytest.mark.parametrize(
    "text",
    ["", "{", '{"a":1,"a":2}', '{"a":1.5}', '{"a":NaN}', "[" * 100_000, '{"a":' + "9" * 5000 + "}", "1 2", b"\xff"],
)
def test_json_is_one_value_without_surprises(text: str | bytes) -> None:  # evidence-tdx.md E64
    with pytest.raises(FormatRefused):
        json_value(text, "test", FormatRefused, bytes_max=1 << 20)


def test_json_is_bounded_and_typed() -> None:  # evidence-tdx.md E64
    assert json_value("[1]", "test", FormatRefused, bytes_max=3) == [1]
    with pytest.raises(FormatRefused):
        json_value("[1]", "test", FormatRefused, bytes_max=2)

    def members() -> Fields:
        raw = json.dumps({"text": "x" * 10, "bad": "\ud800", "list": ["x" * 65], "flag": True})
        return json_fields(raw, "test", FormatRefused, bytes_max=1000)

    assert members().text("text", 10)
    for attempt in (
        lambda: members().text("text", 9),
        lambda: members().text("bad", 128),
        lambda: members().text("none", 128),
        lambda: members().texts("list", 1, 64),
        lambda: members().texts("list", 0, 64),
        lambda: members().uint("flag", 1),
        lambda: members().fields("text"),
    ):
        with pytest.raises(FormatRefused):
            attempt()
    assert _advisories(members()) == ()
