"""Every claim of the TDX section: met by a sound quote, and unmet by the one change it is there for."""

from __future__ import annotations

from dataclasses import fields, replace
from datetime import UTC, datetime
from typing import Any

import pytest

from attestation.errors import PolicyMalformed
from attestation.evidence.event_log import LogEvent
from attestation.evidence.sgx_extension import PckIdentity
from attestation.evidence.tdx_collateral import TcbStatus
from attestation.evidence.tdx_quote import TdReport, TdReportKind
from attestation.policy import document
from attestation.policy.appraise import appraise
from attestation.policy.claims import ClaimStanding
from attestation.policy.tdx import TdxPolicy
from attestation.verify.tdx import INTEL_ROOT_SPKI
from attestation.verify.verified import SEAL, TrustAnchor
from attestation.verify.verified_tdx import BoundEvent, SecondOpinion, TcbStanding, VerifiedEventLog, VerifiedTdx
from measurements.reference import ReferenceValues

NOW = datetime(2026, 11, 20, tzinfo=UTC)
UP = TcbStatus.UP_TO_DATE
SEPT = 1 << 28
LOG = VerifiedEventLog((BoundEvent(LogEvent(0, 4, b"\xe1" * 48, b""), True),), SEAL)

REPORT = TdReport(
    kind=TdReportKind.V1_5,
    tee_tcb_svn=bytes(16),
    mr_seam=b"\xa0" * 48,
    mr_signer_seam=bytes(48),
    seam_attributes=bytes(8),
    td_attributes=SEPT,
    xfam=0x602E7,
    mr_td=b"\xa1" * 48,
    mr_config_id=bytes(48),
    mr_owner=bytes(48),
    mr_owner_config=bytes(48),
    rtmrs=(b"\xb0" * 48, b"\xb1" * 48, b"\xb2" * 48, bytes(48)),
    report_data=b"\xc0" * 64,
    tee_tcb_svn2=bytes(16),
    mr_service_td=bytes(48),
)
SOUND = VerifiedTdx(
    root=TrustAnchor("Intel SGX Root CA", INTEL_ROOT_SPKI, simulated=False),
    report=REPORT,
    quote_version=5,
    pck=PckIdentity(b"\xd0" * 16, b"\xd1" * 6, bytes(2), (5,) * 16, 11),
    tcb=TcbStanding(UP, UP, UP, UP, (), None),
    evaluation_number=20,
    collateral_until=NOW,
    verified_at=NOW,
    second_opinion=SecondOpinion("UpToDate", ""),
    signed_digest=bytes(32),
    event_log=LOG,
    seal=SEAL,
)
REFERENCES = ReferenceValues.of(
    {
        "tdx.ppid": [b"\xd0" * 16],
        "tdx.mr_td": [b"\xa1" * 48],
        "tdx.rtmr0": [b"\xb0" * 48],
        "tdx.rtmr1": [b"\xb1" * 48],
        "tdx.rtmr2": [b"\xb2" * 48],
        "tdx.report_data": [b"\xc0" * 64],
        "tdx.events": [b"\xe1" * 48],
    }
)
FULL = document.parse(
    f"""
name = "full"
about = "every field of the section compared"
extends = "strict"
[tdx]
forbidden_advisories = ["INTEL-SA-00001"]
minimum_evaluation_number = 20
fmspc = ["{"d1" * 6}"]
mr_seam = ["{"a0" * 48}"]
mr_signer_seam = ["{"00" * 48}"]
event_log = "required"
events = "reference"
""".encode()
)


def unmet(evidence: VerifiedTdx, references: ReferenceValues = REFERENCES, policy: Any = FULL) -> set[str]:
    return {claim.code for claim in appraise(evidence, references, policy).unmet}


def test_a_sound_quote_meets_every_claim() -> None:
    appraisal = appraise(SOUND, REFERENCES, FULL)
    assert appraisal.accepted
    assert all(claim.standing is ClaimStanding.MET for claim in appraisal.claims)
    assert len(appraisal.claims) == len(fields(TdxPolicy))


def said(**changes: Any) -> VerifiedTdx:
    return replace(SOUND, report=replace(REPORT, **changes))


def tcb(status: TcbStatus, *advisories: str) -> VerifiedTdx:
    return replace(SOUND, tcb=replace(SOUND.tcb, status=status, advisories=advisories))


ONE_OFF: dict[str, VerifiedTdx] = {
    "tdx.root": replace(SOUND, root=TrustAnchor("x", bytes(32), simulated=True)),
    "tdx.tcb.status": tcb(TcbStatus.OUT_OF_DATE),
    "tdx.tcb.advisories": tcb(UP, "INTEL-SA-00001", "INTEL-SA-00002"),
    "tdx.tcb.evaluation-number": replace(SOUND, evaluation_number=19),
    "tdx.ppid": replace(SOUND, pck=replace(SOUND.pck, ppid=bytes(16))),
    "tdx.fmspc": replace(SOUND, pck=replace(SOUND.pck, fmspc=bytes(6))),
    "tdx.second-opinion": replace(SOUND, second_opinion=SecondOpinion("", "because\nof this")),
    "tdx.attributes.sept-ve-disable": said(td_attributes=0),
    "tdx.attributes.migratable": said(td_attributes=SEPT | 1 << 29),
    "tdx.attributes.perfmon": said(td_attributes=SEPT | 1 << 63),
    "tdx.service-td": said(mr_service_td=b"\1" + bytes(47)),
    "tdx.mr-seam": said(mr_seam=bytes(48)),
    "tdx.mr-signer-seam": said(mr_signer_seam=b"\1" * 48),
    "tdx.mr-td": said(mr_td=bytes(48)),
    "tdx.mr-config-id": said(mr_config_id=b"\1" * 48),
    "tdx.mr-owner": said(mr_owner=b"\1" * 48),
    "tdx.mr-owner-config": said(mr_owner_config=b"\1" * 48),
    "tdx.report-data": said(report_data=bytes(64)),
    "tdx.events": replace(
        SOUND, event_log=VerifiedEventLog((*LOG.events, BoundEvent(LogEvent(1, 4, b"\xe2" * 48, b""), True)), SEAL)
    ),
}


@pytest.mark.parametrize("code", ONE_OFF)
# evidence-tdx.md E79 to E84, E86 to E88, E91, E92, E94 to E97
def test_one_change_leaves_one_claim_unmet(code: str) -> None:
    assert unmet(ONE_OFF[code]) == {code}


@pytest.mark.parametrize("register", range(4))
def test_each_register_is_a_claim_of_its_own(register: int) -> None:  # evidence-tdx.md E93
    changed = tuple(b"\1" * 48 if n == register else value for n, value in enumerate(REPORT.rtmrs))
    assert unmet(said(rtmrs=changed)) == {f"tdx.rtmr{register}"}


@pytest.mark.parametrize("bit", range(64))
def test_every_attribute_bit_is_somebodys(bit: int) -> None:  # evidence-tdx.md E85, E87 to E89
    harmless = {27, 28, 30, 31}
    found = unmet(said(td_attributes=SEPT | 1 << bit))
    if bit in harmless:
        assert not found
    elif bit < 8:
        assert found == {"tdx.attributes.debug"}
    else:
        named = {29: "tdx.attributes.migratable", 63: "tdx.attributes.perfmon"}
        assert found == {named.get(bit, "tdx.attributes.unknown")}


@pytest.mark.parametrize("xfam", [0x602E6, 0x602E5, 0x602E7 | 1 << 3, 0x602E7 | 1 << 63, 0x602E7 | 1 << 10])
def test_xfam_has_what_it_must_and_nothing_strange(xfam: int) -> None:  # evidence-tdx.md E90
    assert unmet(said(xfam=xfam)) == {"tdx.xfam"}


def test_every_feature_a_module_may_grant_is_met() -> None:  # evidence-tdx.md E90
    assert not unmet(said(xfam=0x6DBE7))
    assert not unmet(said(xfam=0x3))


def test_without_a_log_both_its_claims_are_unmet() -> None:  # evidence-tdx.md E97
    assert unmet(replace(SOUND, event_log=None)) == {"tdx.event-log", "tdx.events"}


def test_a_report_without_the_field_has_no_service_td() -> None:  # evidence-tdx.md E96
    assert not unmet(said(mr_service_td=None))


def test_without_reference_values_nothing_named_is_met() -> None:
    assert unmet(SOUND, ReferenceValues.none()) == {
        "tdx.ppid",
        "tdx.mr-td",
        "tdx.rtmr0",
        "tdx.rtmr1",
        "tdx.rtmr2",
        "tdx.report-data",
        "tdx.events",
    }


def test_the_built_in_policies_refuse_a_simulated_root_and_debug() -> None:  # evidence-tdx.md E79, E85
    for name in document.builtin_names():
        policy = document.builtin(name)
        assert "tdx.root" in unmet(ONE_OFF["tdx.root"], policy=policy)
        assert "tdx.attributes.debug" in unmet(said(td_attributes=SEPT | 1), policy=policy)
        for code in (
            "tdx.tcb.status",
            "tdx.second-opinion",
            "tdx.attributes.sept-ve-disable",
            "tdx.attributes.migratable",
            "tdx.attributes.perfmon",
            "tdx.service-td",
        ):
            assert code in unmet(ONE_OFF[code], policy=policy)


@pytest.mark.parametrize("status", TcbStatus)
def test_strict_takes_a_platform_that_is_up_to_date_alone(status: TcbStatus) -> None:  # evidence-tdx.md E80
    refused = "tdx.tcb.status" in unmet(tcb(status), policy=document.builtin("strict"))
    assert refused == (status is not UP)


@pytest.mark.parametrize("name", document.builtin_names())
def test_no_builtin_policy_takes_a_platform_no_level_describes(name: str) -> None:  # evidence-tdx.md E72
    assert "tdx.tcb.status" in unmet(tcb(TcbStatus.UNLISTED), policy=document.builtin(name))


def test_a_named_simulated_root_is_met() -> None:  # evidence-tdx.md E79
    text = f'name = "x"\nabout = "x"\nextends = "strict"\n[tdx]\nsimulated_roots = ["{"00" * 32}"]'
    assert "tdx.root" not in unmet(ONE_OFF["tdx.root"], policy=document.parse(text.encode()))


def test_a_newer_table_could_still_decide_the_evaluation_number() -> None:  # evidence-tdx.md E82
    assert appraise(ONE_OFF["tdx.tcb.evaluation-number"], REFERENCES, FULL).wants_only_collateral
    assert not appraise(ONE_OFF["tdx.mr-td"], REFERENCES, FULL).wants_only_collateral


@pytest.mark.parametrize("name", [field.name for field in fields(TdxPolicy)])
def test_no_field_is_left_out_by_silence(name: str) -> None:
    own = [f'{field.name} = {{ unchecked = "why" }}' for field in fields(TdxPolicy) if field.name != name]
    own = [line if not line.startswith("simulated_roots") else "simulated_roots = []" for line in own]
    text = "\n".join(['name = "x"', 'about = "x"', "[tdx]", *own])
    with pytest.raises(PolicyMalformed) as refused:
        document.parse(text.encode())
    assert refused.value.code == f"policy.tdx.{name}"


def test_a_policy_without_the_section_refuses() -> None:
    text = b'name = "x"\nabout = "x"\n[gpu]\n' + b"\n".join(
        [b"simulated_roots = []", b"products = []"]
        + [
            name + b' = { unchecked = "why" }'
            for name in (
                b"devices",
                b"nonce",
                b"revocation",
                b"firmware_id",
                b"driver_versions",
                b"vbios_versions",
                b"rims",
                b"uncovered_measurements",
            )
        ]
    )
    assert unmet(SOUND, policy=document.parse(text)) == {"tdx.section"}


SIZES = {
    "ppid": 16,
    "fmspc": 6,
    "report_data": 64,
    **dict.fromkeys(
        (
            "mr_seam",
            "mr_signer_seam",
            "mr_td",
            "rtmr0",
            "rtmr1",
            "rtmr2",
            "rtmr3",
            "mr_config_id",
            "mr_owner",
            "mr_owner_config",
            "events",
        ),
        48,
    ),
    "simulated_roots": 32,
}


def strict_but(line: str) -> document.Policy:
    return document.parse(f'name = "x"\nabout = "x"\nextends = "strict"\n[tdx]\n{line}'.encode())


@pytest.mark.parametrize("name", SIZES)
def test_a_named_value_has_its_size(name: str) -> None:
    strict_but(f'{name} = ["{"00" * SIZES[name]}"]')
    for size in (SIZES[name] - 1, SIZES[name] + 1):
        with pytest.raises(PolicyMalformed):
            strict_but(f'{name} = ["{"00" * size}"]')


@pytest.mark.parametrize(
    "line",
    [
        'simulated_roots = { unchecked = "why" }',
        'tcb_status = ["Fine"]',
        'tcb_status = "UpToDate"',
        "minimum_evaluation_number = -1",
        'minimum_evaluation_number = "1"',
        f"minimum_evaluation_number = {2**31 + 1}",
        'debug = "maybe"',
        'xfam = "forbidden"',
        'forbidden_advisories = [""]',
    ],
)
def test_a_field_of_another_kind_is_refused(line: str) -> None:
    with pytest.raises(PolicyMalformed):
        strict_but(line)


def test_the_evaluation_number_may_be_anything_from_zero() -> None:
    for number in (0, 2**31):
        section = strict_but(f"minimum_evaluation_number = {number}").tdx
        assert section is not None
        assert section.minimum_evaluation_number == number


def test_the_appraisal_says_what_was_expected_and_what_came() -> None:
    claims = {claim.code: claim for claim in appraise(SOUND, REFERENCES, FULL).claims}
    assert claims["tdx.mr-td"].expected == "a1" * 48
    assert claims["tdx.attributes.debug"].expected == "clear"
    assert claims["tdx.attributes.sept-ve-disable"].expected == "set"
    assert claims["tdx.attributes.sept-ve-disable"].got == "set (0x10000000)"
    assert claims["tdx.service-td"].got == "clear"
    assert claims["tdx.second-opinion"].got == "UpToDate"
    assert claims["tdx.tcb.advisories"].got == "none"
    assert claims["tdx.event-log"].got == "one of 1 events"
    assert claims["tdx.root"].expected == "Intel's root"
    none = {claim.code: claim for claim in appraise(SOUND, ReferenceValues.none(), FULL).claims}
    assert none["tdx.mr-td"].expected == "one of 0 reference values"
    two = strict_but(f'mr_td = ["{"00" * 48}", "{"01" * 48}"]\nsimulated_roots = ["{"00" * 32}"]')
    told = {claim.code: claim for claim in appraise(SOUND, REFERENCES, two).claims}
    assert told["tdx.mr-td"].expected == "one of 2 values of the policy"
    assert told["tdx.root"].expected == "Intel's root, or one of 1 named simulated roots"
    declined = {claim.code: claim for claim in appraise(ONE_OFF["tdx.second-opinion"], REFERENCES, FULL).claims}
    assert declined["tdx.second-opinion"].got == "declined: because"
    simulated = {claim.code: claim for claim in appraise(ONE_OFF["tdx.root"], REFERENCES, FULL).claims}
    assert "simulated" in simulated["tdx.root"].got
    bare = {claim.code: claim for claim in appraise(replace(SOUND, event_log=None), REFERENCES, FULL).claims}
    assert bare["tdx.event-log"].got == "none"
