"""A gateway canister on a subnet of its own."""

from __future__ import annotations

import pytest

from devnet.gateway import Gateway
from tests.gateways import Bench


@pytest.fixture
def bench() -> Bench:
    return Bench()


@pytest.fixture
def gateway(bench: Bench) -> Gateway:
    return bench.gateway
