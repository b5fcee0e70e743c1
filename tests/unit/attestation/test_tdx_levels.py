"""The status of a TDX platform, its module and its quoting enclave."""

from __future__ import annotations

from typing import Any

import pytest

from attestation.evidence.tdx_collateral import TcbStatus
from tests.unit.attestation.forge_tdx import World, qe_identity, tcb_info
from tests.unit.attestation.tdx_judging import DATE, judge, level, refusal


def test_the_qe_identity_masks_what_may_differ(world: World) -> None:  # evidence-tdx.md E71
    quote = world.quote(qe_attributes=b"\x15" + bytes(7) + b"\xe7" + bytes(7))
    assert judge(world, quote, world.collateral())
    masked = world.collateral(identity=qe_identity(miscselectMask="FFFFFFFE"))
    assert judge(world, world.quote(qe_misc=1), masked)


def module(status: str, svn: int = 5) -> list[dict[str, Any]]:
    one = tcb_info()["tdxModuleIdentities"][0]
    return [{**one, "tcbLevels": [{"tcb": {"isvsvn": svn}, "tcbDate": DATE, "tcbStatus": status}]}]


def enclave(status: str, svn: int = 4) -> dict[str, Any]:
    return qe_identity(tcbLevels=[{"tcb": {"isvsvn": svn}, "tcbDate": DATE, "tcbStatus": status}])


@pytest.mark.parametrize(
    "status",
    [
        "UpToDate",
        "SWHardeningNeeded",
        "ConfigurationNeeded",
        "ConfigurationAndSWHardeningNeeded",
        "OutOfDate",
        "OutOfDateConfigurationNeeded",
    ],
)
def test_the_status_is_the_platforms(world: World, status: str) -> None:  # evidence-tdx.md E72
    verified = judge(world, world.quote(), world.collateral(info=tcb_info(tcbLevels=[level(status)])))
    assert verified.tcb.status.value == status
    assert verified.tcb.advisories == (f"INTEL-SA-{status}",)
    assert verified.second_opinion.status == status


def test_a_revoked_level_proves_nothing(world: World) -> None:  # evidence-tdx.md E73
    for collateral in (
        world.collateral(info=tcb_info(tcbLevels=[level("Revoked")])),
        world.collateral(info=tcb_info(tdxModuleIdentities=module("Revoked"))),
        world.collateral(identity=enclave("Revoked")),
    ):
        assert refusal(world, world.quote(), collateral) == ("revoked", "tdx.tcb_revoked")


def test_the_first_level_that_is_reached_counts(world: World) -> None:  # evidence-tdx.md E72
    info = tcb_info(tcbLevels=[level("UpToDate", pcesvn=12), level("OutOfDate", pcesvn=11)])
    assert judge(world, world.quote(), world.collateral(info=info)).tcb.platform is TcbStatus.OUT_OF_DATE


@pytest.mark.parametrize(
    "tcb",
    [
        {"pcesvn": 12},
        {"sgxtcbcomponents": [{"svn": 5}] * 15 + [{"svn": 6}]},
        {"tdxtcbcomponents": [{"svn": 5}, {"svn": 1}, {"svn": 3}] + [{"svn": 0}] * 13},
    ],
)
def test_a_platform_no_level_describes_is_unlisted(world: World, tcb: dict[str, Any]) -> None:  # evidence-tdx.md E72
    info = tcb_info(tcbLevels=[level("UpToDate", **tcb)])
    verified = judge(world, world.quote(), world.collateral(info=info))
    assert (verified.tcb.status, verified.tcb.platform) == (TcbStatus.UNLISTED, TcbStatus.UNLISTED)
    assert verified.second_opinion.declined.startswith("No matching TCB level")


def test_the_module_has_levels_of_its_own(world: World) -> None:  # evidence-tdx.md E72
    stale = world.collateral(info=tcb_info(tdxModuleIdentities=module("OutOfDate")))
    assert judge(world, world.quote(), stale).tcb.module is TcbStatus.OUT_OF_DATE
    assert judge(world, world.quote(), stale).tcb.status is TcbStatus.OUT_OF_DATE
    # The module's own number is judged by its identity, not by the platform's first component.
    low = world.quote(tee_tcb_svn=bytes([4, 1, 2]) + bytes(13))
    found = judge(world, low, world.collateral()).tcb
    assert (found.platform, found.module) == (TcbStatus.UP_TO_DATE, TcbStatus.UNLISTED)
    other = world.quote(tee_tcb_svn=bytes([9, 2, 2]) + bytes(13))
    assert judge(world, other, world.collateral()).tcb.module is TcbStatus.UNLISTED


def test_a_module_from_before_versions_is_judged_with_the_platform(world: World) -> None:  # evidence-tdx.md E72
    old = world.quote(tee_tcb_svn=bytes([5, 0, 2]) + bytes(13))
    flat = [{"svn": 5}, {"svn": 0}, {"svn": 2}] + [{"svn": 0}] * 13
    good = world.collateral(info=tcb_info(tcbLevels=[level("UpToDate", tdxtcbcomponents=flat)]))
    assert judge(world, old, good).tcb.status is TcbStatus.UP_TO_DATE
    newer = [{"svn": 6}, *flat[1:]]
    short = world.collateral(info=tcb_info(tcbLevels=[level("UpToDate", tdxtcbcomponents=newer)]))
    assert judge(world, old, short).tcb.status is TcbStatus.UNLISTED


def test_the_modules_signer_and_attributes_are_intels(world: World) -> None:  # evidence-tdx.md E72
    signed = world.quote(seam_signer=b"\1" * 48)
    assert refusal(world, signed, world.collateral()) == ("binding", "tdx.module_signer")
    debug = world.quote(seam_attributes=b"\1" + bytes(7))
    assert refusal(world, debug, world.collateral()) == ("binding", "tdx.module_attributes")


def test_the_worst_part_decides(world: World) -> None:  # evidence-tdx.md E72
    stale = world.collateral(identity=enclave("OutOfDate"))
    assert judge(world, world.quote(), stale).tcb.status is TcbStatus.OUT_OF_DATE
    both = world.collateral(info=tcb_info(tcbLevels=[level("ConfigurationNeeded")]), identity=enclave("OutOfDate"))
    assert judge(world, world.quote(), both).tcb.status is TcbStatus.OUT_OF_DATE_CONFIGURATION_NEEDED
    older = world.collateral(identity=enclave("UpToDate", svn=5))
    assert judge(world, world.quote(), older).tcb.quoting_enclave is TcbStatus.UNLISTED
