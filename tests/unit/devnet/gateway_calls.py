"""What tests ask of a gateway, and read of it."""

from __future__ import annotations

from typing import Any

import pytest

from anchorhold.host.gateway_client import GatewayRefused, chat
from attestation.consensus.blocks import Block
from devnet.gateway import Gateway
from tests.gateways import caller

ALICE, BOB = caller(1), caller(2)
STRANGER = b"\x02stranger"


def ask(text: str = "hello", **options: Any) -> dict[str, Any]:
    return chat("tiny", ("user", {"content": text}), **options)


def blocks_of(gateway: Gateway, first: int = 1) -> list[Block]:
    return [Block.decode(raw) for raw in gateway.get_slice(first).encoded]


def refused(code: str) -> pytest.RaisesExc[GatewayRefused]:
    return pytest.raises(GatewayRefused, match=code.replace(".", r"\."))


def biases(by_token: dict[int, int]) -> list[dict[str, int]]:
    return [{"token": token, "bias_micro": by_token[token]} for token in sorted(by_token)]
