"""The devnet's replica: canisters in WebAssembly, what passes between them, and what clients see of them.

    Network     several canisters, rounds, calls, cycles, timers          network.py, delivery.py
    Replica     one of them, driven by hand                               single.py
    Canister    code, state, settings; one message at a time              canister.py, instance.py, module.py, stable.py
    ic0         which functions there are, and what they do               ic0_table.py, system_api.py, prices.py
    aaaaa-aa    the management canister                                   management.py, management_types.py

What it is not: consensus. One process runs every canister, keeps every key and decides every order.
"""

from devnet.replica.canister import Canister
from devnet.replica.messages import (
    ANONYMOUS,
    MANAGEMENT_CANISTER,
    NO_ARGUMENTS,
    Call,
    Entry,
    Execution,
    NotAnswered,
    OutgoingCall,
    RejectCode,
    Rejected,
    Rejection,
    Stage,
)
from devnet.replica.network import Network, numbered
from devnet.replica.settings import Settings, Status
from devnet.replica.single import Replica

__all__ = [
    "ANONYMOUS",
    "MANAGEMENT_CANISTER",
    "NO_ARGUMENTS",
    "Call",
    "Canister",
    "Entry",
    "Execution",
    "Network",
    "NotAnswered",
    "OutgoingCall",
    "RejectCode",
    "Rejected",
    "Rejection",
    "Replica",
    "Settings",
    "Stage",
    "Status",
    "numbered",
]
