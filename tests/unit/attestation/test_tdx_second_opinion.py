"""Two verifiers of a TDX quote: where they disagree, and which reasons are left to the policy."""

from __future__ import annotations

from typing import Any

import pytest

from attestation.evidence.tdx_collateral import TcbStatus
from attestation.verify import tdx
from attestation.verify.verified_tdx import SecondOpinion
from tests.unit.attestation.forge_tdx import SEPT_VE_DISABLE, World, tcb_info
from tests.unit.attestation.tdx_judging import judge, level, refusal


@pytest.mark.parametrize(
    ("attributes", "reason"),
    [(SEPT_VE_DISABLE | 1, "Debug mode"), (0, "SEPT_VE_DISABLE"), (SEPT_VE_DISABLE | 1 << 29, "TD migration")],
)
def test_what_dcap_qvl_refuses_as_policy_is_kept_for_the_policy(
    world: World, attributes: int, reason: str
) -> None:  # evidence-tdx.md E74
    verified = judge(world, world.quote(attributes=attributes), world.collateral())
    assert verified.second_opinion.declined.startswith(reason)


def opine(monkeypatch: pytest.MonkeyPatch, opinion: SecondOpinion, *, simulated: bool) -> None:
    """dcap-qvl's answer replaced: the two verifiers agree on everything that can be forged here."""
    monkeypatch.setattr(tdx, "_second_opinion", lambda *_: opinion)
    if not simulated:
        build = tdx.TrustAnchor
        monkeypatch.setattr(tdx, "TrustAnchor", lambda name, spki, **_: build(name, spki, simulated=False))


@pytest.mark.parametrize(("status", "declined"), [("OutOfDate", ""), ("", "Invalid signature"), ("", "")])
def test_two_verifiers_that_disagree_refuse(
    world: World, monkeypatch: pytest.MonkeyPatch, status: str, declined: str
) -> None:  # evidence-tdx.md E74
    opine(monkeypatch, SecondOpinion(status, declined), simulated=False)
    assert refusal(world, world.quote(), world.collateral()) == ("not genuine", "tdx.second_opinion")


@pytest.mark.parametrize(
    "reason",
    ["Debug mode is enabled", "No matching TCB level found", "Invalid MR service TD", "Invalid QE auth data length"],
)
def test_a_reason_without_its_fact_does_not_excuse(
    world: World, monkeypatch: pytest.MonkeyPatch, reason: str
) -> None:  # evidence-tdx.md E74
    opine(monkeypatch, SecondOpinion("", reason), simulated=False)
    assert refusal(world, world.quote(), world.collateral()) == ("not genuine", "tdx.second_opinion")


@pytest.mark.parametrize(
    ("reason", "quote", "info"),
    [
        ("Debug mode is enabled", {"attributes": SEPT_VE_DISABLE | 1}, None),
        ("Invalid MR service TD", {"version": 5, "service_td": b"\1" * 48}, None),
        ("Invalid QE auth data length", {"auth_bytes": 0}, None),
        ("No matching TCB level found", {}, tcb_info(tcbLevels=[])),
    ],
)
def test_a_reason_with_its_fact_is_for_the_policy(
    world: World, monkeypatch: pytest.MonkeyPatch, reason: str, quote: dict[str, Any], info: dict[str, Any] | None
) -> None:  # evidence-tdx.md E74
    opine(monkeypatch, SecondOpinion("", reason), simulated=False)
    verified = judge(world, world.quote(**quote), world.collateral(info=info))
    assert verified.second_opinion.declined == reason


# evidence-tdx.md E74
def test_an_advised_relaunch_is_out_of_date(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    opine(monkeypatch, SecondOpinion("TDRelaunchAdvised", ""), simulated=False)
    stale = world.collateral(info=tcb_info(tcbLevels=[level("OutOfDate")]))
    assert judge(world, world.quote(), stale).tcb.status is TcbStatus.OUT_OF_DATE
    assert refusal(world, world.quote(), world.collateral()) == ("not genuine", "tdx.second_opinion")


# evidence-tdx.md E75
def test_a_declined_simulated_quote_is_for_the_policy(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    opine(monkeypatch, SecondOpinion("", "Malformed"), simulated=True)
    assert judge(world, world.quote(), world.collateral()).second_opinion.declined == "Malformed"
