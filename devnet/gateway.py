"""The gateway canister on a stand-in replica: its module, and calls of canisters as well as of people.

    gateway = Gateway.on_subnet(subnet, clock=..., randomness=..., controllers=...)
    ticket = gateway.submit_chat(caller, chat("little", ("user", {"content": "..."})))
    gateway.seal_block(operator)

The wasm is the one checked in at gateway/gateway.wasm, its digest checked before it runs.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

from anchorhold.host.gateway_client import GatewayClient, GatewayRefused, SealedBlock
from devnet.replica import Call, Replica
from devnet.subnet import GATEWAY, Subnet

CANISTER_ID_BYTES = 10
ARTEFACTS = Path(__file__).resolve().parent.parent / "gateway"


def gateway_wasm() -> bytes:
    """The checked-in module, refused unless it has the digest checked in beside it."""
    wasm = (ARTEFACTS / "gateway.wasm").read_bytes()
    expected = (ARTEFACTS / "gateway.wasm.sha256").read_text("ascii").split()[0]
    if (got := hashlib.sha256(wasm).hexdigest()) != expected:
        raise GatewayRefused("wasm.digest", expected=expected, got=got)
    return wasm


class Gateway(GatewayClient):
    """Of a replica in this process, which may be driven as well."""

    def __init__(self, replica: Replica) -> None:
        super().__init__(replica)
        self.replica = replica

    @classmethod
    def install(cls, replica: Replica) -> Gateway:
        replica.install(gateway_wasm())
        return cls(replica)

    @classmethod
    def on_subnet(
        cls, subnet: Subnet, *, clock: Callable[[], int], randomness: Callable[[], bytes], controllers: frozenset[bytes]
    ) -> Gateway:
        """A fresh gateway whose certificates `subnet` signs, at the time `clock` gives."""

        def certify(canister: bytes, certified_data: bytes) -> bytes:
            return subnet.certify(canister, certified_data, clock())

        return cls.install(
            Replica(GATEWAY, clock=clock, randomness=randomness, certify=certify, controllers=controllers)
        )

    def upgrade(self) -> None:
        """The same code again, through `pre_upgrade` and `post_upgrade`."""
        self.replica.upgrade(gateway_wasm())

    def begin(self, method: str, argument: bytes, caller: bytes) -> Call:
        """Starts an update call. People's calls pass the gateway's inspection; canisters' calls have none."""
        if not (len(caller) == CANISTER_ID_BYTES and caller.endswith(b"\1\1")):
            return self.replica.ingress(method, argument, caller)
        network = self.replica.network
        call = network.submit(self.replica.canister_id, method, argument, caller)
        network.run(network.numbers, network.numbers)
        return call

    def seal_block(self, caller: bytes) -> SealedBlock | None:
        """Seals what waits and delivers every outstanding call. `None` if nothing waited."""
        call = self.begin_seal(caller)
        self.replica.settle()
        return self.end_seal(call)
