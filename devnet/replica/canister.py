"""One canister: its code and state, its settings and cycles, and the running of one message on it.

A message either commits or leaves nothing: memory, globals, stable memory, certified data, timer and cycles are put
back when it traps. Whom a call goes to and when it runs is the network's business, not the canister's.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final, Protocol

import wasmtime

from devnet.replica.instance import Code, Instance, compile_module
from devnet.replica.messages import Callback, Context, Entry, Execution, Message, Rejected
from devnet.replica.module import ModuleRefused
from devnet.replica.settings import Settings, Status
from devnet.replica.stable import StableMemory
from devnet.replica.system_api import CanisterTrapped, SystemApi

if TYPE_CHECKING:
    from collections.abc import Mapping

FUEL_MAX: Final = 20_000_000_000
CYCLES_AT_START: Final = 100_000_000_000_000
PRINTS_MAX: Final = 1_000


class Around(Protocol):
    """What a canister needs of the network it is in."""

    @property
    def subnet_id(self) -> bytes: ...
    @property
    def root_key(self) -> bytes: ...
    def now_ns(self) -> int: ...
    def has_room(self, caller: bytes, callee: bytes, being_made: int) -> bool: ...
    def ran(self, execution: Execution) -> None: ...


class Canister:
    """One canister of a network."""

    def __init__(self, network: Around, canister_id: bytes, settings: Settings, cycles: int, *, fuel_max: int) -> None:
        self.canister_id: Final = canister_id
        self.settings = settings
        self.cycles = cycles
        self.status = Status.RUNNING
        self.version = 0
        self.certified_data = b""
        self.timer_ns = 0
        self.prints: list[str] = []
        self.stable = StableMemory()
        self.instance: Instance | None = None
        self.fuel_max = fuel_max
        self.chunks: dict[bytes, bytes] = {}
        self.stops: list[int] = []  # calls to `stop_canister` that wait for its end
        self._network: Final = network
        self.api: Final = SystemApi(self)

    # ---- what the System API asks

    def is_controller(self, principal: bytes) -> bool:
        return principal in self.settings.controllers

    def fuel_left(self) -> int:
        return self.installed().store.get_fuel()

    def has_room_for(self, callee: bytes, being_made: int) -> bool:
        return self._network.has_room(self.canister_id, callee, being_made)

    @property
    def status_code(self) -> int:
        return self.status.value

    @property
    def environment(self) -> Mapping[str, str]:
        return self.settings.environment

    @property
    def subnet_id(self) -> bytes:
        return self._network.subnet_id

    @property
    def root_key(self) -> bytes:
        return self._network.root_key

    # ---- code

    def installed(self) -> Instance:
        if self.instance is None:
            raise Rejected("destination_invalid", expected="an installed canister", got="none")
        return self.instance

    @property
    def code(self) -> Code | None:
        return self.instance.code if self.instance is not None else None

    def exports(self, name: str) -> bool:
        return self.instance is not None and self.instance.function(name) is not None

    def install(self, wasm: bytes, argument: bytes, caller: bytes) -> None:
        """Fresh state. Raises `Rejected` if the code cannot start; the canister is then as it was before."""
        self._replace(self._compiled(wasm), "canister_init", argument, caller, fresh=True)

    def upgrade(
        self,
        wasm: bytes,
        argument: bytes,
        caller: bytes,
        *,
        skip_pre_upgrade: bool = False,
        keep_memory: bool | None = None,
    ) -> None:
        """New code over kept state. A trap anywhere in it leaves old code and old state (`Rejected`)."""
        instance, code = self.installed(), self._compiled(wasm)
        keep = code.keeps_main_memory if keep_memory is None else keep_memory
        if not keep and keep_memory is None and instance.code.keeps_main_memory:
            raise Rejected("sys_fatal", expected="a module that keeps main memory", got="a module that drops it")
        before = (self.certified_data, self.cycles)
        if not skip_pre_upgrade:
            message = self.message(Entry.PRE_UPGRADE, caller)
            self.execute(instance.function("canister_pre_upgrade"), message, commit=False)
            if message.certified_data is not None:
                self.certified_data = message.certified_data
        try:
            self._replace(code, "canister_post_upgrade", argument, caller, fresh=False, keep_memory=keep)
        except Rejected:
            self.certified_data, self.cycles = before
            self.undo()
            raise

    def uninstall(self) -> None:
        self.instance, self.stable = None, StableMemory()
        self.certified_data, self.timer_ns = b"", 0
        self.version += 1
        self.chunks.clear()

    def _compiled(self, wasm: bytes) -> Code:
        try:
            return compile_module(wasm)
        except ModuleRefused as refused:
            raise Rejected("canister_error", expected=refused.expected, got=str(refused)) from None

    def _replace(
        self, code: Code, entry: str, argument: bytes, caller: bytes, *, fresh: bool, keep_memory: bool = False
    ) -> None:
        old, stable_before = self.instance, self.stable
        memory = old.memory_now() if old is not None and keep_memory else b""
        if fresh:
            self.stable = StableMemory()
        try:
            new = Instance(code, self.api, memory)
            self.instance = new
            self.execute(new.start(), self.message(Entry.START), commit=False)
            message = self.message(Entry.INIT, caller, argument)
            self.execute(new.function(entry), message, commit=False)
        except (Rejected, ModuleRefused) as refused:
            self.instance, self.stable = old, stable_before
            if isinstance(refused, ModuleRefused):
                raise Rejected("canister_error", expected=refused.expected, got=str(refused)) from None
            raise
        # Interface specification: changing code clears the timer; a fresh install clears certified data too.
        self.timer_ns = 0
        self.version += 1
        if fresh:
            self.certified_data = b""
        self.commit(message)

    # ---- one execution

    def message(self, entry: Entry, caller: bytes = b"", argument: bytes = b"", method: str = "") -> Message:
        return Message(entry, self._network.now_ns(), caller=caller, argument=argument, method=method)

    def execute(
        self,
        function: wasmtime.Func | None,
        message: Message,
        *arguments: int,
        commit: bool,
        context: Context | None = None,
    ) -> None:
        """Runs one message. On a trap everything it did is gone and `Rejected` says why.

        Without a function there is nothing to run: a hook that the module does not have.
        """
        if function is None:
            return
        instance = self.installed()
        self.api.message, self.api.context = message, context
        cycles, available = self.cycles, context.cycles if context is not None else 0
        instance.store.set_fuel(self.fuel_max)
        message.fuel_before = self.fuel_max
        message.context_fuel = context.fuel if context is not None else 0
        trapped: str | None = None
        try:
            function(instance.store, *arguments)
            self.cycles += message.building.cycles if message.building is not None else 0
        except (CanisterTrapped, wasmtime.Trap, wasmtime.WasmtimeError) as trap:
            trapped = str(trap).splitlines()[-1].strip() if str(trap) else type(trap).__name__
        except BaseException:
            self._abandon(cycles, context, available)
            raise
        fuel = self.fuel_max - instance.store.get_fuel()
        if context is not None:
            context.fuel += fuel
        if trapped is not None:
            self._abandon(cycles, context, available)
        self._network.ran(Execution(self.canister_id, message.entry, message.method, fuel, trapped))
        if trapped is not None:
            raise Rejected("canister_error", expected="a message that does not trap", got=trapped)
        if commit:
            self.commit(message)

    def call_back(self, callback: Callback, message: Message, context: Context) -> None:
        """Runs a function of the table. Raises `Rejected` as `execute` does, also if there is none at its index."""
        try:
            function = self.installed().table_entry(callback.table_index)
        except CanisterTrapped as trap:
            raise Rejected("canister_error", expected="a callback", got=str(trap)) from None
        self.execute(function, message, callback.environment, commit=True, context=context)

    def _abandon(self, cycles: int, context: Context | None, available: int) -> None:
        self.undo()
        self.cycles = cycles
        if context is not None:
            context.cycles = available

    def commit(self, message: Message) -> None:
        self.installed().commit()
        self.stable.commit()
        self.prints = [*self.prints, *message.prints][-PRINTS_MAX:]
        if message.certified_data is not None:
            self.certified_data = message.certified_data
        if message.timer_ns is not None:
            self.timer_ns = message.timer_ns

    def undo(self) -> None:
        self.installed().roll_back()
        self.stable.roll_back()

    # ---- reading

    def inspect(self, method: str, argument: bytes, caller: bytes) -> bool:
        """Whether the canister takes this message from outside. Raises `Rejected` if looking at it traps."""
        function = self.installed().function("canister_inspect_message")
        if function is None:
            return True
        message = self.message(Entry.INSPECT, caller, argument, method)
        self.execute(function, message, commit=False)
        self.undo()
        return message.accepted

    def say(self, line: str) -> None:
        """One more line of what the canister printed."""
        self.prints = [*self.prints, line][-PRINTS_MAX:]

    def change(self, **settings: object) -> None:
        self.settings = replace(self.settings, **settings)  # type: ignore[arg-type]  # the fields' own types
        self.version += 1
