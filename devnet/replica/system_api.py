"""The System API (`ic0`): what a canister's code may ask of the replica while one message runs.

`ic0_table` says which functions there are and where each may be called; this says what they do. Addresses and amounts
arrive unsigned. A rule that is broken raises `CanisterTrapped`, and the canister then undoes the whole message.

`performance_counter` counts the engine's fuel: deterministic, near the subnet's own count of instructions, not equal
to it. The price functions tell the Internet Computer's list (`prices`); there are no threshold keys here, so the
three that price a signature answer that the key name is unknown.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, Protocol

from devnet.replica import prices
from devnet.replica.messages import Callback, Context, Entry, Message, Request
from devnet.replica.stable import StableMemory

CERTIFIED_DATA_BYTES_MAX: Final = 32
REPLY_BYTES_MAX: Final = 2 << 20
ARGUMENT_BYTES_MAX: Final = 2 << 20
BOUNDED_WAIT_S_MAX: Final = 300
NAME_BYTES_MAX: Final = 128
QUEUE_FULL: Final = 2  # SYS_TRANSIENT, as `call_perform` returns it
UNKNOWN_KEY: Final = 2
_UINT64: Final = 2**64 - 1


class CanisterTrapped(Exception):
    """The canister called `ic0.trap`, or broke a rule of the System API."""


class Memory(Protocol):
    """What the System API needs of the instance."""

    def read(self, offset: int, size: int) -> bytes: ...
    def write(self, offset: int, data: bytes) -> None: ...


class Surroundings(Protocol):
    """What the System API needs of the canister and of the network around it."""

    cycles: int

    @property
    def canister_id(self) -> bytes: ...
    @property
    def subnet_id(self) -> bytes: ...
    @property
    def root_key(self) -> bytes: ...
    @property
    def timer_ns(self) -> int: ...
    @property
    def status_code(self) -> int: ...
    @property
    def version(self) -> int: ...
    @property
    def environment(self) -> Mapping[str, str]: ...
    @property
    def stable(self) -> StableMemory: ...
    @property
    def instance(self) -> Memory | None: ...
    def is_controller(self, principal: bytes) -> bool: ...
    def fuel_left(self) -> int: ...
    def has_room_for(self, callee: bytes, being_made: int) -> bool: ...


class SystemApi:
    """The functions, for one canister. `message` and `context` are set before each execution."""

    def __init__(self, around: Surroundings) -> None:
        self._around = around
        self.message: Message = Message(Entry.START, 0)
        self.context: Context | None = None

    # ---- plumbing

    def _memory(self) -> Memory:
        if self._around.instance is None:
            raise CanisterTrapped("memory used before instantiation")
        return self._around.instance

    def _bytes_at(self, offset: int, size: int) -> bytes:
        try:
            return self._memory().read(offset, size)
        except IndexError as outside:
            raise CanisterTrapped(str(outside)) from None

    def _text_at(self, offset: int, size: int) -> str:
        try:
            return self._bytes_at(offset, size).decode()
        except UnicodeDecodeError:
            raise CanisterTrapped("a text that is not UTF-8") from None

    def _put(self, destination: int, data: bytes) -> None:
        try:
            self._memory().write(destination, data)
        except IndexError as outside:
            raise CanisterTrapped(str(outside)) from None

    def _copy_out(self, source: bytes, destination: int, offset: int, size: int) -> None:
        if offset + size > len(source):
            raise CanisterTrapped("copy out of bounds of the source")
        self._put(destination, source[offset : offset + size])

    def _put_cycles(self, destination: int, amount: int) -> None:
        self._put(destination, amount.to_bytes(16, "little"))

    # ---- what came in

    def msg_arg_data_size(self) -> int:
        return len(self.message.argument)

    def msg_arg_data_copy(self, destination: int, offset: int, size: int) -> None:
        self._copy_out(self.message.argument, destination, offset, size)

    def msg_caller_size(self) -> int:
        return len(self.message.caller)

    def msg_caller_copy(self, destination: int, offset: int, size: int) -> None:
        self._copy_out(self.message.caller, destination, offset, size)

    # No caller here is known by a canister's signature, so there is never anything a canister said about one.

    def msg_caller_info_data_size(self) -> int:
        return 0

    def msg_caller_info_data_copy(self, destination: int, offset: int, size: int) -> None:
        self._copy_out(b"", destination, offset, size)

    msg_caller_info_signer_size = msg_caller_info_data_size
    msg_caller_info_signer_copy = msg_caller_info_data_copy

    def msg_reject_code(self) -> int:
        return self.message.reject_code

    def msg_reject_msg_size(self) -> int:
        return len(self.message.reject_message.encode())

    def msg_reject_msg_copy(self, destination: int, offset: int, size: int) -> None:
        self._copy_out(self.message.reject_message.encode(), destination, offset, size)

    def msg_deadline(self) -> int:
        return self.message.deadline_ns

    def msg_method_name_size(self) -> int:
        return len(self.message.method.encode())

    def msg_method_name_copy(self, destination: int, offset: int, size: int) -> None:
        self._copy_out(self.message.method.encode(), destination, offset, size)

    def accept_message(self) -> None:
        if self.message.accepted:
            raise CanisterTrapped("the message is accepted twice")
        self.message.accepted = True

    # ---- the response

    def _responding(self) -> Message:
        message = self.message
        if not message.may_respond or message.reply is not None or message.rejection is not None:
            raise CanisterTrapped("this call has had its response")
        return message

    def msg_reply_data_append(self, offset: int, size: int) -> None:
        message = self._responding()
        if len(message.reply_data) + size > REPLY_BYTES_MAX:
            raise CanisterTrapped(f"a reply is at most {REPLY_BYTES_MAX} bytes")
        message.reply_data += self._bytes_at(offset, size)

    def msg_reply(self) -> None:
        message = self._responding()
        message.reply = bytes(message.reply_data)

    def msg_reject(self, offset: int, size: int) -> None:
        self._responding().rejection = self._text_at(offset, size)

    # ---- cycles

    def _available(self) -> int:
        if self.context is None or self.message.rejection is not None or self.message.reply is not None:
            return 0
        return 0 if self.context.responded else self.context.cycles

    def _accept(self, amount: int) -> int:
        accepted = min(amount, self._available())
        if accepted and self.context is not None:
            self.context.cycles -= accepted
            self._around.cycles += accepted
        return accepted

    def _attach(self, amount: int) -> None:
        request = self._building()
        if amount > self._around.cycles:
            raise CanisterTrapped(f"attached {amount} cycles with a balance of {self._around.cycles}")
        self._around.cycles -= amount
        request.cycles += amount

    def msg_cycles_available128(self, destination: int) -> None:
        self._put_cycles(destination, self._available())

    def msg_cycles_refunded128(self, destination: int) -> None:
        self._put_cycles(destination, self.message.cycles_refunded)

    def msg_cycles_accept128(self, high: int, low: int, destination: int) -> None:
        self._put_cycles(destination, self._accept(high << 64 | low))

    def cycles_burn128(self, high: int, low: int, destination: int) -> None:
        burned = min(high << 64 | low, self._around.cycles)
        self._around.cycles -= burned
        self._put_cycles(destination, burned)

    def canister_cycle_balance128(self, destination: int) -> None:
        self._put_cycles(destination, self._around.cycles)

    def canister_liquid_cycle_balance128(self, destination: int) -> None:
        self._put_cycles(destination, self._around.cycles)

    def call_cycles_add128(self, high: int, low: int) -> None:
        self._attach(high << 64 | low)

    def msg_cycles_available(self) -> int:
        return self._in_64_bits(self._available())

    def msg_cycles_refunded(self) -> int:
        return self._in_64_bits(self.message.cycles_refunded)

    def msg_cycles_accept(self, amount: int) -> int:
        return self._accept(amount)

    def canister_cycle_balance(self) -> int:
        return self._in_64_bits(self._around.cycles)

    def call_cycles_add(self, amount: int) -> None:
        self._attach(amount)

    def _in_64_bits(self, amount: int) -> int:
        if amount > _UINT64:
            raise CanisterTrapped(f"{amount} cycles do not fit in 64 bits")
        return amount

    # ---- calls

    def call_new(
        self,
        callee: int,
        callee_size: int,
        name: int,
        name_size: int,
        on_reply: int,
        reply_environment: int,
        on_reject: int,
        reject_environment: int,
    ) -> None:
        self._drop_building()
        self.message.building = Request(
            callee=self._bytes_at(callee, callee_size),
            method=self._text_at(name, name_size),
            on_reply=Callback(on_reply, reply_environment),
            on_reject=Callback(on_reject, reject_environment),
        )

    def _drop_building(self) -> None:
        """A call that is built and never performed: its cycles stay here."""
        dropped, self.message.building = self.message.building, None
        if dropped is not None:
            self._around.cycles += dropped.cycles

    def _building(self) -> Request:
        request = self.message.building
        if request is None:
            raise CanisterTrapped("no call is being built")
        return request

    def call_on_cleanup(self, function: int, environment: int) -> None:
        request = self._building()
        if request.on_cleanup is not None:
            raise CanisterTrapped("a cleanup callback is set twice")
        request.on_cleanup = Callback(function, environment)

    def call_data_append(self, offset: int, size: int) -> None:
        request = self._building()
        if len(request.argument) + size > ARGUMENT_BYTES_MAX:
            raise CanisterTrapped(f"an argument is at most {ARGUMENT_BYTES_MAX} bytes")
        request.argument += self._bytes_at(offset, size)

    def call_with_best_effort_response(self, timeout_s: int) -> None:
        request = self._building()
        if request.timeout_s is not None:
            raise CanisterTrapped("a bounded wait is asked for twice")
        request.timeout_s = min(timeout_s, BOUNDED_WAIT_S_MAX)

    def call_perform(self) -> int:
        request = self._building()
        being_made = sum(each.callee == request.callee for each in self.message.requests)
        if not self._around.has_room_for(request.callee, being_made):
            self._drop_building()
            return QUEUE_FULL
        self.message.requests.append(request)
        self.message.building = None
        return 0

    # ---- what is certified, and the time

    def certified_data_set(self, offset: int, size: int) -> None:
        if size > CERTIFIED_DATA_BYTES_MAX:
            raise CanisterTrapped(f"certified data is at most {CERTIFIED_DATA_BYTES_MAX} bytes")
        self.message.certified_data = self._bytes_at(offset, size)

    def data_certificate_present(self) -> int:
        return int(self.message.certificate is not None)

    def _certificate(self) -> bytes:
        if self.message.certificate is None:
            raise CanisterTrapped("no certificate is available")
        return self.message.certificate()

    def data_certificate_size(self) -> int:
        return len(self._certificate())

    def data_certificate_copy(self, destination: int, offset: int, size: int) -> None:
        self._copy_out(self._certificate(), destination, offset, size)

    def time(self) -> int:
        return self.message.time_ns

    def global_timer_set(self, deadline_ns: int) -> int:
        before = self._around.timer_ns if self.message.timer_ns is None else self.message.timer_ns
        self.message.timer_ns = deadline_ns
        return before

    def performance_counter(self, kind: int) -> int:
        spent = self.message.fuel_before - self._around.fuel_left()
        if kind > 1:
            raise CanisterTrapped(f"performance counter {kind} is not one of 0 and 1")
        return spent + self.message.context_fuel if kind else spent

    # ---- what the canister may know

    def canister_self_size(self) -> int:
        return len(self._around.canister_id)

    def canister_self_copy(self, destination: int, offset: int, size: int) -> None:
        self._copy_out(self._around.canister_id, destination, offset, size)

    def subnet_self_size(self) -> int:
        return len(self._around.subnet_id)

    def subnet_self_copy(self, destination: int, offset: int, size: int) -> None:
        self._copy_out(self._around.subnet_id, destination, offset, size)

    def root_key_size(self) -> int:
        return len(self._around.root_key)

    def root_key_copy(self, destination: int, offset: int, size: int) -> None:
        self._copy_out(self._around.root_key, destination, offset, size)

    def canister_status(self) -> int:
        return self._around.status_code

    def canister_version(self) -> int:
        return self._around.version

    def is_controller(self, offset: int, size: int) -> int:
        return int(self._around.is_controller(self._bytes_at(offset, size)))

    def in_replicated_execution(self) -> int:
        return int(self.message.entry not in (Entry.QUERY, Entry.INSPECT))

    # ---- environment variables

    def _variable(self, index: int) -> bytes:
        names = sorted(self._around.environment)
        if index >= len(names):
            raise CanisterTrapped(f"environment variable {index} of {len(names)}")
        return names[index].encode()

    def _variable_name(self, offset: int, size: int) -> str:
        if size > NAME_BYTES_MAX:
            raise CanisterTrapped(f"a name of a variable is at most {NAME_BYTES_MAX} bytes")
        return self._text_at(offset, size)

    def _variable_value(self, offset: int, size: int) -> bytes:
        name = self._variable_name(offset, size)
        if name not in self._around.environment:
            raise CanisterTrapped(f"no environment variable {name!r}")
        return self._around.environment[name].encode()

    def env_var_count(self) -> int:
        return len(self._around.environment)

    def env_var_name_size(self, index: int) -> int:
        return len(self._variable(index))

    def env_var_name_copy(self, index: int, destination: int, offset: int, size: int) -> None:
        self._copy_out(self._variable(index), destination, offset, size)

    def env_var_name_exists(self, offset: int, size: int) -> int:
        return int(self._variable_name(offset, size) in self._around.environment)

    def env_var_value_size(self, offset: int, size: int) -> int:
        return len(self._variable_value(offset, size))

    def env_var_value_copy(self, name: int, name_size: int, destination: int, offset: int, size: int) -> None:
        self._copy_out(self._variable_value(name, name_size), destination, offset, size)

    # ---- prices

    def cost_call(self, method_bytes: int, argument_bytes: int, destination: int) -> None:
        self._put_cycles(destination, prices.call(method_bytes, argument_bytes))

    def cost_create_canister(self, destination: int) -> None:
        self._put_cycles(destination, prices.CREATE_CANISTER)

    def cost_http_request(self, request_bytes: int, response_bytes_max: int, destination: int) -> None:
        self._put_cycles(destination, prices.http_request(request_bytes, response_bytes_max))

    def cost_sign_with_ecdsa(self, name: int, size: int, _curve: int, _destination: int) -> int:
        self._text_at(name, size)
        return UNKNOWN_KEY

    cost_sign_with_schnorr = cost_sign_with_ecdsa
    cost_vetkd_derive_key = cost_sign_with_ecdsa

    # ---- for whoever debugs

    def debug_print(self, offset: int, size: int) -> None:
        self.message.prints.append(self._bytes_at(offset, size).decode("utf-8", "replace"))

    def trap(self, offset: int, size: int) -> None:
        raise CanisterTrapped(self._bytes_at(offset, size).decode("utf-8", "replace"))

    # ---- stable memory

    def _within(self, offset: int, size: int) -> StableMemory:
        if not self._around.stable.within(offset, size):
            raise CanisterTrapped("stable memory access out of bounds")
        return self._around.stable

    def stable64_size(self) -> int:
        return self._around.stable.pages

    def stable64_grow(self, pages: int) -> int:
        return self._around.stable.grow(pages)

    def stable64_read(self, destination: int, offset: int, size: int) -> None:
        self._put(destination, self._within(offset, size).read(offset, size))

    def stable64_write(self, offset: int, source: int, size: int) -> None:
        self._within(offset, size).write(offset, self._bytes_at(source, size))

    stable_size = stable64_size
    stable_grow = stable64_grow
    stable_read = stable64_read
    stable_write = stable64_write
