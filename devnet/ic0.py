"""The part of the Internet Computer's System API (`ic0`) that the gateway canister imports.

One `Message` is one execution: what the canister may read in it, and what it did. Nothing here is final until
the replica commits the message. Each function may be called only in the entry points the interface
specification allows it in; elsewhere it traps. Pointers are 64-bit, as in modules compiled for memory64.

Left out on purpose: cycles (amounts are accepted and lost, refunds are zero) and the specification's own
instruction metering: `performance_counter` counts the engine's fuel, deterministic but not the subnet's unit.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import Any, Protocol

STABLE_PAGE_BYTES = 65_536
STABLE_PAGES_MAX = 16_384  # 1 GiB: far under the real 500 GiB, enough for a stand-in
CERTIFIED_DATA_BYTES_MAX = 32
_RUNNING = 1


class CanisterTrapped(Exception):
    """The canister called `ic0.trap`, or broke a rule of the System API."""


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


_ANY = frozenset(Entry) - {Entry.START}
_RESPONDING = frozenset({Entry.UPDATE, Entry.REPLICATED_QUERY, Entry.QUERY, Entry.REPLY, Entry.REJECT})
_CALLING = frozenset({Entry.UPDATE, Entry.REPLY, Entry.REJECT, Entry.TIMER})
_CERTIFYING = _CALLING | {Entry.INIT, Entry.PRE_UPGRADE}


@dataclass(frozen=True, slots=True)
class Callback:
    table_index: int
    environment: int


@dataclass(slots=True)
class Request:
    """A call the canister makes to another canister, or to the management canister."""

    callee: bytes
    method: str
    on_reply: Callback
    on_reject: Callback
    on_cleanup: Callback | None = None
    argument: bytearray = field(default_factory=bytearray)


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
    may_respond: bool = False
    certificate: bytes | None = None
    fuel_before: int = 0

    accepted: bool = False
    reply_data: bytearray = field(default_factory=bytearray)
    reply: bytes | None = None
    rejection: str | None = None
    requests: list[Request] = field(default_factory=list)
    building: Request | None = None
    certified_data: bytes | None = None
    timer_ns: int | None = None
    prints: list[str] = field(default_factory=list)


class StableMemory:
    """Stable memory that forgets what was written since the last commit when told to."""

    def __init__(self, content: bytes = b"") -> None:
        self._live = bytearray(content)
        self._before: bytes | None = None

    def _about_to_change(self) -> None:
        if self._before is None:
            self._before = bytes(self._live)

    def commit(self) -> None:
        self._before = None

    def roll_back(self) -> None:
        if self._before is not None:
            self._live, self._before = bytearray(self._before), None

    def content(self) -> bytes:
        return bytes(self._live)

    @property
    def pages(self) -> int:
        return len(self._live) // STABLE_PAGE_BYTES

    def grow(self, pages: int) -> int:
        before = self.pages
        if before + pages > STABLE_PAGES_MAX:
            return -1
        self._about_to_change()
        self._live.extend(bytes(pages * STABLE_PAGE_BYTES))
        return before

    def _within(self, offset: int, size: int) -> None:
        if offset < 0 or size < 0 or offset + size > len(self._live):
            raise CanisterTrapped("stable memory access out of bounds")

    def read(self, offset: int, size: int) -> bytes:
        self._within(offset, size)
        return bytes(self._live[offset : offset + size])

    def write(self, offset: int, data: bytes) -> None:
        self._within(offset, len(data))
        self._about_to_change()
        self._live[offset : offset + len(data)] = data


class Memory(Protocol):
    """What the System API needs of the instance."""

    def read(self, offset: int, size: int) -> bytes: ...
    def write(self, offset: int, data: bytes) -> None: ...


class SystemApi:
    """Binds the functions to one canister. The replica sets `message` and `memory` before each execution."""

    def __init__(
        self,
        canister_id: bytes,
        is_controller: Callable[[bytes], bool],
        fuel_left: Callable[[], int],
    ) -> None:
        self._canister_id = canister_id
        self._is_controller = is_controller
        self._fuel_left = fuel_left
        self.stable = StableMemory()
        self.memory: Memory | None = None
        self.message: Message = Message(Entry.START, 0)

    def imports(self) -> dict[str, Callable[..., Any]]:
        return {name: getattr(self, name) for name in _FUNCTIONS}

    # ---- plumbing

    def _in(self, allowed: frozenset[Entry]) -> Message:
        if self.message.entry not in allowed:
            raise CanisterTrapped(f"a system function is not available in {self.message.entry.name.lower()}")
        return self.message

    def _bytes_at(self, offset: int, size: int) -> bytes:
        if self.memory is None:
            raise CanisterTrapped("memory used before instantiation")
        try:
            return self.memory.read(offset, size)
        except IndexError as outside:
            raise CanisterTrapped(str(outside)) from None

    def _text_at(self, offset: int, size: int) -> str:
        return self._bytes_at(offset, size).decode("utf-8", "replace")

    def _copy_out(self, source: bytes, destination: int, offset: int, size: int) -> None:
        if offset < 0 or size < 0 or offset + size > len(source):
            raise CanisterTrapped("copy out of bounds of the source")
        if self.memory is None:
            raise CanisterTrapped("memory used before instantiation")
        try:
            self.memory.write(destination, source[offset : offset + size])
        except IndexError as outside:
            raise CanisterTrapped(str(outside)) from None

    # ---- what came in

    def msg_arg_data_size(self) -> int:
        return len(self._in(_RESPONDING | {Entry.INIT, Entry.INSPECT}).argument)

    def msg_arg_data_copy(self, destination: int, offset: int, size: int) -> None:
        message = self._in(_RESPONDING | {Entry.INIT, Entry.INSPECT})
        self._copy_out(message.argument, destination, offset, size)

    def msg_caller_size(self) -> int:
        return len(self._in(_ANY).caller)

    def msg_caller_copy(self, destination: int, offset: int, size: int) -> None:
        self._copy_out(self._in(_ANY).caller, destination, offset, size)

    def msg_reject_code(self) -> int:
        return self._in(frozenset({Entry.REPLY, Entry.REJECT, Entry.CLEANUP})).reject_code

    def msg_reject_msg_size(self) -> int:
        return len(self._in(frozenset({Entry.REJECT})).reject_message.encode())

    def msg_reject_msg_copy(self, destination: int, offset: int, size: int) -> None:
        text = self._in(frozenset({Entry.REJECT})).reject_message.encode()
        self._copy_out(text, destination, offset, size)

    def msg_method_name_size(self) -> int:
        return len(self._in(frozenset({Entry.INSPECT})).method.encode())

    def msg_method_name_copy(self, destination: int, offset: int, size: int) -> None:
        self._copy_out(self._in(frozenset({Entry.INSPECT})).method.encode(), destination, offset, size)

    def accept_message(self) -> None:
        message = self._in(frozenset({Entry.INSPECT}))
        if message.accepted:
            raise CanisterTrapped("the message is accepted twice")
        message.accepted = True

    def msg_cycles_refunded128(self, destination: int) -> None:
        self._in(frozenset({Entry.REPLY, Entry.REJECT}))
        self._copy_out(bytes(16), destination, 0, 16)

    # ---- what goes out

    def _responding(self) -> Message:
        message = self._in(_RESPONDING)
        if not message.may_respond or message.reply is not None or message.rejection is not None:
            raise CanisterTrapped("this call has had its response")
        return message

    def msg_reply_data_append(self, offset: int, size: int) -> None:
        self._responding().reply_data += self._bytes_at(offset, size)

    def msg_reply(self) -> None:
        message = self._responding()
        message.reply = bytes(message.reply_data)

    def msg_reject(self, offset: int, size: int) -> None:
        self._responding().rejection = self._text_at(offset, size)

    def call_new(
        self,
        callee: int,
        callee_size: int,
        name: int,
        name_size: int,
        reply_function: int,
        reply_environment: int,
        reject_function: int,
        reject_environment: int,
    ) -> None:
        self._in(_CALLING).building = Request(
            callee=self._bytes_at(callee, callee_size),
            method=self._text_at(name, name_size),
            on_reply=Callback(reply_function, reply_environment),
            on_reject=Callback(reject_function, reject_environment),
        )

    def _building(self) -> Request:
        request = self._in(_CALLING).building
        if request is None:
            raise CanisterTrapped("no call is being built")
        return request

    def call_on_cleanup(self, function: int, environment: int) -> None:
        request = self._building()
        if request.on_cleanup is not None:
            raise CanisterTrapped("a cleanup callback is set twice")
        request.on_cleanup = Callback(function, environment)

    def call_data_append(self, offset: int, size: int) -> None:
        self._building().argument += self._bytes_at(offset, size)

    def call_cycles_add128(self, _high: int, _low: int) -> None:
        self._building()

    def call_with_best_effort_response(self, _timeout_seconds: int) -> None:
        self._building()

    def call_perform(self) -> int:
        self.message.requests.append(self._building())
        self.message.building = None
        return 0

    def certified_data_set(self, offset: int, size: int) -> None:
        message = self._in(_CERTIFYING)
        if size > CERTIFIED_DATA_BYTES_MAX:
            raise CanisterTrapped(f"certified data is at most {CERTIFIED_DATA_BYTES_MAX} bytes")
        message.certified_data = self._bytes_at(offset, size)

    def global_timer_set(self, deadline_ns: int) -> int:
        message = self._in(_CERTIFYING | {Entry.CLEANUP})
        before, message.timer_ns = message.timer_ns or 0, deadline_ns & (2**64 - 1)
        return before

    # ---- what the canister may know

    def data_certificate_present(self) -> int:
        return int(self._in(_ANY).certificate is not None)

    def _certificate(self) -> bytes:
        certificate = self._in(frozenset({Entry.QUERY})).certificate
        if certificate is None:
            raise CanisterTrapped("no certificate is available")
        return certificate

    def data_certificate_size(self) -> int:
        return len(self._certificate())

    def data_certificate_copy(self, destination: int, offset: int, size: int) -> None:
        self._copy_out(self._certificate(), destination, offset, size)

    def canister_self_size(self) -> int:
        return len(self._canister_id)

    def canister_self_copy(self, destination: int, offset: int, size: int) -> None:
        self._copy_out(self._canister_id, destination, offset, size)

    def canister_status(self) -> int:
        return _RUNNING

    def is_controller(self, offset: int, size: int) -> int:
        return int(self._is_controller(self._bytes_at(offset, size)))

    def time(self) -> int:
        return self._in(_ANY).time_ns

    def performance_counter(self, _kind: int) -> int:
        return self.message.fuel_before - self._fuel_left()

    def debug_print(self, offset: int, size: int) -> None:
        self.message.prints.append(self._text_at(offset, size))

    def trap(self, offset: int, size: int) -> None:
        raise CanisterTrapped(self._text_at(offset, size))

    # ---- stable memory

    def stable64_size(self) -> int:
        return self.stable.pages

    def stable64_grow(self, pages: int) -> int:
        return self.stable.grow(pages)

    def stable64_read(self, destination: int, offset: int, size: int) -> None:
        self._copy_out(self.stable.read(offset, size), destination, 0, size)

    def stable64_write(self, offset: int, source: int, size: int) -> None:
        self.stable.write(offset, self._bytes_at(source, size))


_FUNCTIONS = frozenset(
    name for name, item in vars(SystemApi).items() if callable(item) and not name.startswith("_")
) - {"imports"}
