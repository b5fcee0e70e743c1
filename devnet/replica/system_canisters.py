"""The two system canisters that command lines ask before they create a canister; only the methods that they call.

    rkp4c-7iaaa-aaaaa-aaaca-cai     cycles minting: `get_default_subnets` names the devnet's one subnet
    um5iw-rqaaa-aaaaq-qaaba-cai     cycles ledger: `create_canister`, and a balance that is always enough

Nothing is paid here: cycles come from nowhere and are worth nothing. No ledger of ICP exists, and none is pretended.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final, Protocol

from devnet.replica.canister import CYCLES_AT_START, Canister
from devnet.replica.management_types import SETTINGS, settings_of
from devnet.replica.messages import Rejected
from foundation.candid import (
    BLOB,
    NAT,
    NAT64,
    PRINCIPAL,
    TEXT,
    CandidRefused,
    Opt,
    Record,
    Type,
    Variant,
    Vec,
    decode,
    encode,
)

CYCLES_MINTING: Final = bytes.fromhex("00000000000000040101")
CYCLES_LEDGER: Final = bytes.fromhex("00000000021000020101")
_SELECTION: Final = Variant({"Subnet": Record({"subnet": PRINCIPAL}), "Filter": Record({"subnet_type": Opt(TEXT)})})
_CREATE: Final = Record(
    {
        "from_subaccount": Opt(BLOB),
        "created_at_time": Opt(NAT64),
        "amount": NAT,
        "creation_args": Opt(Record({"settings": Opt(SETTINGS), "subnet_selection": Opt(_SELECTION)})),
    }
)
_GENERIC: Final = Record({"error_code": NAT, "message": TEXT})
_CREATED: Final = Variant(
    {"Ok": Record({"block_id": NAT, "canister_id": PRINCIPAL}), "Err": Variant({"GenericError": _GENERIC})}
)
_ACCOUNT: Final = Record({"owner": PRINCIPAL, "subaccount": Opt(BLOB)})


class Network(Protocol):
    """What these canisters need of the network."""

    @property
    def subnet_id(self) -> bytes: ...
    def create(
        self, canister_id: bytes | None = None, *, controllers: Iterable[bytes] = (), cycles: int = ...
    ) -> Canister: ...


def _default_subnets(network: Network, _caller: bytes, _asked: Any) -> bytes:
    return encode([Vec(PRINCIPAL)], [[network.subnet_id]])


def _balance(_network: Network, _caller: bytes, _asked: Any) -> bytes:
    return encode([NAT], [CYCLES_AT_START])


def _create(network: Network, caller: bytes, asked: Any) -> bytes:
    arguments = asked["creation_args"] or {"settings": None, "subnet_selection": None}
    match arguments["subnet_selection"]:
        case ("Subnet", {"subnet": subnet}) if subnet != network.subnet_id:
            wrong = {"error_code": 1, "message": f"the devnet has one subnet, {network.subnet_id.hex()}"}
            return encode([_CREATED], [("Err", ("GenericError", wrong))])
    made = network.create(controllers=[caller], cycles=asked["amount"])
    if arguments["settings"] is not None:
        made.change(**settings_of(arguments["settings"]))
    return encode([_CREATED], [("Ok", {"block_id": 0, "canister_id": made.canister_id})])


_Method = tuple[tuple[Type, ...], Callable[[Network, bytes, Any], bytes], bool]
_METHODS: Final[Mapping[bytes, Mapping[str, _Method]]] = {  # arguments, what is done, whether a query
    CYCLES_MINTING: {"get_default_subnets": ((), _default_subnets, True)},
    CYCLES_LEDGER: {"create_canister": ((_CREATE,), _create, False), "icrc1_balance_of": ((_ACCOUNT,), _balance, True)},
}
IDS: Final = frozenset(_METHODS)


def _found(canister: bytes, method: str) -> _Method:
    methods = _METHODS[canister]
    if method not in methods:
        what = f"this stand-in for a system canister has no method {method!r}"
        raise Rejected("destination_invalid", expected=f"one of {', '.join(methods)}", got=what)
    return methods[method]


def run(network: Network, canister: bytes, method: str, argument: bytes, *, caller: bytes) -> bytes:
    """The reply. Raises `Rejected`."""
    types, does, _ = _found(canister, method)
    try:
        values = decode(types, argument) if types else []
    except CandidRefused as refused:
        raise Rejected("canister_error", expected=f"arguments of {method}", got=str(refused)) from None
    return does(network, caller, values[0] if values else None)


def query(network: Network, canister: bytes, method: str, argument: bytes, *, caller: bytes) -> bytes:
    """As `run`, of a method that changes nothing."""
    if not _found(canister, method)[2]:
        raise Rejected("canister_error", expected="a query method", got=f"{method!r} is no query")
    return run(network, canister, method, argument, caller=caller)
