"""A quote of a simulated world, verified or refused, and its levels."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import datetime
from typing import Any

import pytest

from attestation.errors import EvidenceRefused
from attestation.evidence.tdx_collateral import TdxCollateral
from attestation.evidence.tdx_quote import TdxQuote
from attestation.verify.tdx import verify_tdx_with_root_ca
from attestation.verify.verified_tdx import VerifiedTdx
from tests.unit.attestation.forge_tdx import NOW, World, tcb_info


def judge(world: World, quote: bytes, collateral: dict[str, str] | None, at: datetime = NOW) -> VerifiedTdx:
    endorsed = None if collateral is None else TdxCollateral.parse(json.dumps(collateral))
    return verify_tdx_with_root_ca(TdxQuote.parse(quote), endorsed, at=at, root_der=world.root.der)


def refusal(world: World, quote: bytes, collateral: dict[str, str] | None, at: datetime = NOW) -> tuple[str, str]:
    with pytest.raises(EvidenceRefused) as refused:
        judge(world, quote, collateral, at)
    return refused.value.stage, refused.value.code


def flip(at: int) -> Callable[[bytes], bytes]:
    return lambda data: data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]


DATE = "2026-01-01T00:00:00Z"


def level(status: str, svn: int = 5, **tcb: Any) -> dict[str, Any]:
    base = tcb_info()["tcbLevels"][0]["tcb"]
    tdx_svns = [{"svn": svn}, {"svn": 1}, {"svn": 2}] + [{"svn": 0}] * 13
    return {
        "tcb": {**base, "tdxtcbcomponents": tdx_svns, **tcb},
        "tcbDate": DATE,
        "tcbStatus": status,
        "advisoryIDs": [f"INTEL-SA-{status}"],
    }
