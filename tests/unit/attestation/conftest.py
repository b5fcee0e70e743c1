"""The simulated TDX world that quotes are of."""

from __future__ import annotations

import pytest

from tests.unit.attestation.forge_tdx import World


@pytest.fixture(scope="module")
def world() -> World:
    return World()
