"""What passes between canisters, their callers and the network: calls, responses, contexts, executions.

Plain values. `Message` is one execution: what the canister may read in it, then what it did; nothing in it is final
until the canister commits it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum, IntEnum, auto
from typing import Final, TypeAlias

from foundation.refusal import Refused

MANAGEMENT_CANISTER: Final = b""
ANONYMOUS: Final = b"\x04"
NO_ARGUMENTS: Final = b"DIDL\0\0"


class RejectCode(IntEnum):
    SYS_FATAL = 1
    SYS_TRANSIENT = 2
    DESTINATION_INVALID = 3
    CANISTER_REJECT = 4
    CANISTER_ERROR = 5
    SYS_UNKNOWN = 6


class Rejected(Refused):
    """A call the replica or the canister rejected. `code` is the reject code's name, lower case."""

    stage = "devnet.replica"


class NotAnswered(Refused):
    stage = "devnet.replica"


@dataclass(frozen=True, slots=True)
class Rejection:
    code: RejectCode
    message: str

    def refused(self) -> Rejected:
        return Rejected(self.code.name.lower(), expected="a reply", got=self.message)


def rejection_of(refused: Rejected) -> Rejection:
    """Back from an exception that carries one."""
    return Rejection(RejectCode[refused.code.upper()], refused.got)


Outcome: TypeAlias = bytes | Rejection


class Entry(Enum):
    """Which entry point is running: the letters of the interface specification, spelled out."""

    START = auto()
    INIT = auto()
    PRE_UPGRADE = auto()
    UPDATE = auto()
    REPLICATED_QUERY = auto()
    QUERY = auto()
    REPLY = auto()
    REJECT = auto()
    CLEANUP = auto()
    INSPECT = auto()
    TIMER = auto()
    HEARTBEAT = auto()


@dataclass(frozen=True, slots=True)
class Callback:
    table_index: int
    environment: int


@dataclass(slots=True)
class Request:
    """A call that a canister is making to another canister, or to the management canister."""

    callee: bytes
    method: str
    on_reply: Callback
    on_reject: Callback
    on_cleanup: Callback | None = None
    argument: bytearray = field(default_factory=bytearray)
    cycles: int = 0
    timeout_s: int | None = None


@dataclass(slots=True)
class Message:
    """One execution: its inputs, then what it did."""

    entry: Entry
    time_ns: int
    caller: bytes = b""
    argument: bytes = b""
    method: str = ""
    reject_code: int = 0
    reject_message: str = ""
    deadline_ns: int = 0
    may_respond: bool = False
    cycles_refunded: int = 0
    certificate: Callable[[], bytes] | None = None
    fuel_before: int = 0
    context_fuel: int = 0

    accepted: bool = False
    reply_data: bytearray = field(default_factory=bytearray)
    reply: bytes | None = None
    rejection: str | None = None
    requests: list[Request] = field(default_factory=list)
    building: Request | None = None
    certified_data: bytes | None = None
    timer_ns: int | None = None
    prints: list[str] = field(default_factory=list)

    def response(self) -> Outcome | None:
        if self.rejection is not None:
            return Rejection(RejectCode.CANISTER_REJECT, self.rejection)
        return self.reply


@dataclass(slots=True)
class Call:
    """A call from outside, from its submission to its response."""

    canister: bytes
    method: str
    argument: bytes
    caller: bytes
    request_id: bytes = b""
    expiry_ns: int = 0
    started: bool = False
    outcome: Outcome | None = None

    def reply(self) -> bytes:
        """The reply. Raises `Rejected`, or `NotAnswered` while the canister waits for another one."""
        match self.outcome:
            case bytes() as reply:
                return reply
            case Rejection() as rejection:
                raise rejection.refused()
            case None:
                raise NotAnswered("pending", expected="a response", got="an outstanding call")


@dataclass(slots=True)
class Context:
    """A call context: one incoming call and everything outstanding on its behalf.

    `ingress` or `call` says whom the response is for; a system task has neither and responds to nobody. A context of
    the management canister has an empty id for its canister.
    """

    number: int
    canister: bytes
    caller: bytes
    ingress: int | None = None
    call: int | None = None
    queued: bool = False  # from outside, and not begun
    deadline_ns: int = 0
    cycles: int = 0  # attached and not accepted yet
    fuel: int = 0  # spent by its executions so far
    responded: bool = False
    outstanding: int = 0


class Stage(IntEnum):
    """Where a call between canisters stands."""

    QUEUED = 0  # the callee has not seen it
    OPEN = 1  # the callee works on it
    ANSWERED = 2  # the response waits for the caller


@dataclass(slots=True)
class OutgoingCall:
    """A call one canister made to another, until its callback has run."""

    number: int
    caller: bytes
    context: int
    callee: bytes
    method: str
    argument: bytes = field(repr=False)
    on_reply: Callback
    on_reject: Callback
    on_cleanup: Callback | None
    cycles: int = 0  # on the way there; after the response, on the way back
    deadline_ns: int = 0  # of a bounded-wait call, else 0
    stage: Stage = Stage.QUEUED
    outcome: Outcome | None = field(default=None, repr=False)
    place: int = 0  # in the order of what waits


@dataclass(frozen=True, slots=True)
class Execution:
    """One message that ran: for whoever measures. `fuel` counts WebAssembly instructions as the engine does."""

    canister: bytes
    entry: Entry
    method: str
    fuel: int
    trapped: str | None
