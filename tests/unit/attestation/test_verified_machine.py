"""What SNP and TDX evidence say under the same names once verified."""

from __future__ import annotations

from dataclasses import replace

import pytest

from attestation.evidence.snp_report import GuestPolicy
from attestation.verify.evidence_bundle import verify_bundle
from attestation.verify.verified import VerifiedMachine, VerifiedSnp
from attestation.verify.verified_tdx import VerifiedTdx
from devnet.broker import measurement_of
from devnet.tee import SimulatedSnpTee, SimulatedTee, identity_bundle
from tests.little_tee import AT, CONFIG, KEYSET, NONCE, snp_tee, tdx_tee


def evidence_of(tee: SimulatedTee) -> VerifiedSnp | VerifiedTdx:
    return verify_bundle(identity_bundle(tee, NONCE, KEYSET, CONFIG), at=AT, simulated_root=tee.root.der).evidence


@pytest.mark.parametrize("tee", [snp_tee(), tdx_tee()], ids=["snp", "tdx"])
def test_the_common_facts(tee: SimulatedTee) -> None:
    evidence = evidence_of(tee)
    machine: VerifiedMachine = evidence
    assert machine.format is tee.kind.format
    assert (machine.root.simulated, machine.verified_at) == (True, AT)
    assert machine.launch == measurement_of(tee)
    assert machine.debug is False
    if isinstance(tee, SimulatedSnpTee):
        assert isinstance(evidence, VerifiedSnp)
        assert machine.report_data == evidence.report_data
        assert machine.chip == tee.platform.hardware_id
        assert machine.tcb_words == f"reported {evidence.reported_tcb}, launched with {evidence.launch_tcb}"
    else:
        assert isinstance(evidence, VerifiedTdx)
        assert machine.report_data == evidence.report.report_data
        assert machine.chip == tee.platform.ppid
        assert machine.tcb_words == "UpToDate"


def test_a_machine_under_debug_says_so() -> None:
    snp, tdx = evidence_of(snp_tee()), evidence_of(tdx_tee())
    assert isinstance(snp, VerifiedSnp)
    assert isinstance(tdx, VerifiedTdx)
    assert replace(snp, policy=GuestPolicy(snp.policy.raw | 1 << 19)).debug
    for bit in range(8):
        assert replace(tdx, report=replace(tdx.report, td_attributes=tdx.report.td_attributes | 1 << bit)).debug
