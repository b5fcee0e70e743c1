"""The gateway and the governance canister on a running network: installed once, found again afterwards."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from devnet.gateway import gateway_wasm
from devnet.governance import CANISTER as GOVERNANCE
from devnet.governance import FUNCTION, METHOD, read_wasm, subaccount, voter
from devnet.replica import NO_ARGUMENTS, Rejection
from devnet.replica.running import Running
from devnet.subnet import GATEWAY
from devnet.up.plan import UpRefused
from foundation.candid import BLOB, NAT64, PRINCIPAL, Record, Vec, encode
from measurements.governance.authority import Chain, authority_digest

OPERATOR: Final = bytes.fromhex("00000000fff0000a0101")
"""Controls both. Nobody outside this process can sign as it: it is the id of a canister that is not there."""
NEURONS: Final = 3
SECONDS_MAX: Final = 10.0
_INIT: Final = Record(
    {"authority": BLOB, "function": NAT64, "neurons": Vec(Record({"subaccount": BLOB, "controller": PRINCIPAL}))}
)


def install(running: Running) -> None:
    """Where they are not yet. For `Running.change`."""
    chain = Chain(running.certifier.raw_root_key, GOVERNANCE, METHOD, FUNCTION)
    governed = encode(
        [_INIT],
        [
            {
                "authority": authority_digest(chain),
                "function": FUNCTION,
                "neurons": [
                    {"subaccount": subaccount(number), "controller": voter(number)} for number in range(NEURONS)
                ],
            }
        ],
    )
    network = running.network
    for canister_id, wasm, argument in ((GATEWAY, gateway_wasm(), NO_ARGUMENTS), (GOVERNANCE, read_wasm(), governed)):
        if canister_id not in network.canisters:
            network.install(network.create(canister_id, controllers={OPERATOR}), wasm, argument, OPERATOR)


async def let_report(running: Running, reporters: Sequence[bytes]) -> None:
    """The gateway takes answers from these and from nobody else."""
    call = await running.submit(GATEWAY, "set_reporters", encode([Vec(PRINCIPAL)], [list(reporters)]), OPERATOR)
    if isinstance(call, Rejection):
        raise UpRefused("gateway", expected="to set its reporters", got=call.message)
    if not await running.answered(call, SECONDS_MAX):
        raise UpRefused("gateway", expected=f"a response within {SECONDS_MAX} s", got="none")
    call.reply()
