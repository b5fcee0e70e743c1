"""An attestation of a sound machine, and what holds once a broker denied one."""

from __future__ import annotations

import json

import pytest

from attestation.broker.errors import Unauthenticated
from tests.little_broker import SECRETS, LittleBroker, LittleCell
from tests.little_tee import snp_tee


def attested(cell: LittleCell) -> dict:
    return json.loads(cell.attestation())


TEE = snp_tee()


def expect_denied(little: LittleBroker, cell: LittleCell, code: str) -> None:
    assert (little.last().kind, little.last().details["code"]) == ("denied", code)
    for resource in SECRETS:
        with pytest.raises(Unauthenticated):
            little.broker.resource(cell.cookie, resource)
    with pytest.raises(Unauthenticated):
        cell.attest(little.broker)
    assert "granted" not in [entry.kind for entry in little.entries()]
    little.audit()
