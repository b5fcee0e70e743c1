"""Every published TDX quote, event log and conformance case, judged as its index says, stage included."""

from __future__ import annotations

import base64
import hashlib
import json
from datetime import UTC, datetime
from typing import Any

import pytest

from anchorhold.verbs.verify.published_layouts import collateral_json, tdx_quote_bytes
from attestation.errors import EvidenceRefused
from attestation.evidence.event_log import parse_event_log
from attestation.evidence.tdx_collateral import TcbStatus, TdxCollateral
from attestation.evidence.tdx_quote import TdxQuote
from attestation.policy import document
from attestation.policy.appraise import appraise
from attestation.verify.event_log import verify_event_log
from attestation.verify.tdx import verify_tdx, verify_tdx_with_root_ca
from attestation.verify.verified_tdx import VerifiedTdx
from measurements.reference import ReferenceValues
from tests.unit.attestation import published
from tests.unit.attestation.published import named, of_kind

pytestmark = published.NEEDED


def verify(name: str, collateral: str, at: str, root: str | None = None) -> VerifiedTdx:
    quote = TdxQuote.parse(published.read(name))
    endorsed = TdxCollateral.parse(published.collateral(collateral))
    if root is None:
        return verify_tdx(quote, endorsed, at=published.moment(at))
    return verify_tdx_with_root_ca(quote, endorsed, at=published.moment(at), root_der=published.read(root))


def stage(name: str, collateral: str, at: str) -> str:
    try:
        verify(name, collateral, at)
    except EvidenceRefused as refusal:
        return refusal.stage
    return "genuine"


@pytest.mark.parametrize("entry", of_kind("tdx-quote"), ids=named)
def test_a_real_quote_is_judged_as_published(entry: dict[str, Any]) -> None:  # evidence-tdx.md E66, E67, E72, E74
    said = entry["expect"]["dcap_qvl_0_7_0"]
    if not said:  # the pre-production root
        assert stage(entry["file"], "lunal-50806f000000", "2026-04-10T00:00:00+00:00") == "chain"
    for verdict in said:
        where = entry["file"], verdict["collateral"], verdict["at"]
        if "CertNotValidYet" in str(verdict["detail"]):
            assert stage(*where) == "chain"
            continue
        verified = verify(*where)
        assert not verified.root.simulated
        assert verified.report.mr_td.hex() == entry["mrtd"]
        assert [value.hex() for value in verified.report.rtmrs] == entry["rtmr"]
        accepted = appraise(verified, ReferenceValues.none(), document.builtin("platform")).accepted
        if verdict["result"] == "ERR":  # its signatures hold (the index says so): what is left is policy
            assert verified.second_opinion.declined in verdict["detail"]
            assert not accepted
        else:
            assert verified.tcb.status.value == verdict["result"]
            assert set(verified.tcb.advisories) == set(verdict["detail"])
            clean = verified.report.td_attributes == 1 << 28
            assert accepted == (verdict["result"] == "UpToDate" and clean)


REASONS = {
    "MRTD bit flipped": {"signature"},
    "RTMR3 bit flipped": {"signature"},
    "REPORTDATA bit flipped": {"signature"},
    "TD debug bit set after signing": {"signature"},
    "ISV signature bit flipped": {"signature"},
    "attestation key bit flipped": {"binding"},
    "QE report bit flipped": {"signature"},
    "QE report signature bit flipped": {"signature"},
    "PCK leaf base64 char changed": {"chain"},
    "truncated certification data": {"format"},
    "tee_type 0 (SGX) claimed": {"format"},
    "untouched quote, collateral expired at this time": {"collateral"},
    # One of the three platforms had no certificate yet at the time the other collateral was current.
    "untouched quote, collateral of another FMSPC": {"collateral", "chain"},
}


@pytest.mark.parametrize("entry", of_kind("tdx-quote-negative"), ids=named)
def test_a_spoiled_quote_is_refused_at_its_stage(entry: dict[str, Any]) -> None:  # evidence-tdx.md E68, E70
    wanted = REASONS.get(entry["expect"]["reason"], {"format"})
    assert stage(entry["file"], entry["collateral"], entry["at"]) in wanted


@pytest.mark.parametrize("entry", of_kind("tdx-quote-simulated"), ids=named)
def test_a_simulated_quote_is_judged_as_published(entry: dict[str, Any]) -> None:  # evidence-tdx.md E66, E75, E79
    where = entry["file"], entry["collateral"], entry["at"]
    assert stage(*where) == "chain"  # never under Intel's root
    if "revoked" in entry["file"].lower():
        with pytest.raises(EvidenceRefused) as refused:
            verify(*where, entry["root"])
        assert refused.value.stage == "revoked"
        return
    verified = verify(*where, entry["root"])
    assert verified.root.simulated
    assert not appraise(verified, ReferenceValues.none(), document.builtin("platform")).accepted
    trusting = policy(f'[tdx]\nsimulated_roots = ["{verified.root.spki_sha256.hex()}"]')
    accepted = appraise(verified, ReferenceValues.none(), trusting).accepted
    assert accepted == (entry["expect"]["result"] == "accept")


def policy(text: str) -> document.Policy:
    return document.parse(f'name = "test"\nabout = "test"\nextends = "platform"\n{text}'.encode())


def test_the_real_firmware_log_replays_and_an_edited_one_does_not() -> None:  # evidence-tdx.md E77, E78
    entry = of_kind("ccel")[0]
    verified = verify(entry["quote"], "dcap-quote-collateral-00", "2026-01-27T09:59:59+00:00")
    log = parse_event_log(published.read(entry["file"]))
    assert [value.hex() for value in log.replay()] == [entry["replayed"][f"rtmr{n}"] for n in range(4)]
    found = verify_event_log(log, verified).event_log
    assert found is not None
    assert (len(found.events), sum(event.bound for event in found.events)) == (43, 31)
    spoiled = parse_event_log(published.read(of_kind("ccel-negative")[0]["file"]))
    assert spoiled.replay() == log.replay()  # the digests were left alone: replay cannot see it
    with pytest.raises(EvidenceRefused) as refused:
        verify_event_log(spoiled, verified)
    assert (refused.value.stage, refused.value.code) == ("binding", "eventlog.event4")


def test_the_real_dstack_log_replays_to_the_quote_beside_it() -> None:
    data = published.read(of_kind("dstack-event-log-json")[0]["file"])
    quote = TdxQuote.parse(tdx_quote_bytes(data))
    log = parse_event_log(data)
    assert log.replay() == quote.report.rtmrs
    assert len(log.events) == 28


def test_a_log_of_another_machine_is_refused() -> None:
    entry = of_kind("ccel")[0]
    verified = verify(entry["quote"], "dcap-quote-collateral-00", "2026-01-27T09:59:59+00:00")
    other = parse_event_log(published.read(of_kind("dstack-event-log-json")[0]["file"]))
    with pytest.raises(EvidenceRefused) as refused:
        verify_event_log(other, verified)
    assert refused.value.code == "eventlog.rtmr0"


def test_azures_quote_is_genuine_and_names_the_runtime_data_beside_it() -> None:
    """The quote inside the vTPM evidence; the vTPM's own quote over its PCRs is judged nowhere here."""
    entry = next(entry for entry in of_kind("azure-vtpm-evidence") if "tdx" in entry["file"])
    data = published.read(entry["file"])
    quote = TdxQuote.parse(tdx_quote_bytes(data))
    collateral = TdxCollateral.parse(published.collateral("dcap-quote-collateral-00"))
    verified = verify_tdx(quote, collateral, at=published.moment("2026-01-27T09:59:59+00:00"))
    report = base64.urlsafe_b64decode(json.loads(data)["hcl_report"] + "==")
    start = report.index(b'{"keys"')
    runtime = report[start : start + int.from_bytes(report[start - 4 : start], "little")]
    assert verified.report.report_data == hashlib.sha256(runtime).digest() + bytes(32)


CONFORMANCE = [entry for entry in of_kind("tinfoil-conformance-tdx") if "490-" not in entry["file"]]
# Our policy has no vendor id: the parser knows Intel's alone, so case 490 (pin another) has nothing to turn.
STAGES = {
    "311": "format",
    "313": "format",
    "315": "format",
    "321": "chain",
    "323": "chain",
    "325": "policy",
    "327": "chain",
    "329": "collateral",
    "331": "signature",
    "333": "signature",
    "335": "chain",
    "337": "binding",
    "340": "signature",
    "342": "signature",
    "344": "signature",
    "346": "policy",
    "348": "format",
    "363": "policy",
    "365": "policy",
    "401": "policy",
    "403": "policy",
    "405": "policy",
    "412": "policy",
    "420": "policy",
    "430": "policy",
    "450": "policy",
    "470": "policy",
    "472": "policy",
}


# Their real quote carries a tester's note behind its end. We refuse that (E63) and judge the quote without.
EXTRA = b"\nextra bytes(only for testing purpose)\n"


def test_the_note_behind_a_conformance_quote_is_refused() -> None:  # evidence-tdx.md E63
    noted = [tdx_quote_bytes(published.read(entry["file"])) for entry in CONFORMANCE if "/300-" in entry["file"]]
    assert noted[0].endswith(EXTRA)
    with pytest.raises(EvidenceRefused) as refused:
        TdxQuote.parse(noted[0])
    assert refused.value.code == "tdx.trailing"


@pytest.mark.parametrize("entry", CONFORMANCE, ids=named)
def test_a_conformance_case_is_judged_as_published(entry: dict[str, Any]) -> None:
    number = entry["file"].split("/")[2][:3]
    wanted = "accepted" if entry["expect"]["accepted"] else STAGES[number]
    assert judged(published.read(entry["file"])) == wanted


def judged(case: bytes) -> str:
    given = json.loads(case)
    at = datetime.fromtimestamp(given["expiration_check_date_unix"], UTC)
    try:
        quote = TdxQuote.parse(tdx_quote_bytes(case).removesuffix(EXTRA))
        collateral = TdxCollateral.parse(with_missing_chains(collateral_json(case, quote)))
        root = given["collateral"].get("intel_root_ca_pem")
        if root is None:
            verified = verify_tdx(quote, collateral, at=at)
        else:
            verified = verify_tdx_with_root_ca(quote, collateral, at=at, root_der=certificate_der(root))
    except EvidenceRefused as refusal:
        return refusal.stage
    appraisal = appraise(verified, ReferenceValues.none(), case_policy(given["policy"], verified))
    return "accepted" if appraisal.accepted else "policy"


def certificate_der(pem: str) -> bytes:
    from cryptography.hazmat.primitives.serialization import Encoding

    from attestation.verify.ec_chain import parse_pem_chain

    return parse_pem_chain("test", pem.encode(), count=1)[0].public_bytes(Encoding.DER)


def with_missing_chains(collateral: bytes) -> bytes:
    """The frozen cases leave out who signed the documents; their publisher's collateral names him."""
    members = json.loads(collateral)
    whole = json.loads(published.collateral("tinfoilconf-50806f"))
    for name in ("tcb_info_issuer_chain", "qe_identity_issuer_chain"):
        members[name] = members[name] or whole[name]
    return json.dumps(members).encode()


def case_policy(case: dict[str, Any], verified: VerifiedTdx) -> document.Policy:
    lenient = '{ unchecked = "not asked for by the case" }'
    statuses = ["UpToDate", "ConfigurationNeeded", "SWHardeningNeeded"]
    if "accepted_qv_results" in case:
        statuses = [TcbStatus.UP_TO_DATE.value]
    fields: dict[str, Any] = {
        "simulated_roots": json.dumps([verified.root.spki_sha256.hex()] if verified.root.simulated else []),
        "tcb_status": json.dumps(statuses) if case["tcb_evaluation_required"] else lenient,
        "second_opinion": lenient,
        "minimum_evaluation_number": case.get("min_tcb_evaluation_data_number", lenient),
    }
    if not case.get("enforce_spec_defaults"):
        fields |= dict.fromkeys(("sept_ve_disable", "unknown_attributes", "debug", "xfam"), lenient)
    pins = {
        "expected_fmspc_hex": "fmspc",
        "expected_mr_signer_seam_hex": "mr_signer_seam",
        "expected_mrseam_allowlist": "mr_seam",
        "expected_rtmr3_hex": "rtmr3",
        "expected_mr_config_id_hex": "mr_config_id",
        "expected_mr_owner_config_hex": "mr_owner_config",
    }
    for name, field in pins.items():
        if name in case:
            fields[field] = json.dumps(case[name] if isinstance(case[name], list) else [case[name]])
    return policy("[tdx]\n" + "\n".join(f"{name} = {value}" for name, value in fields.items()))
