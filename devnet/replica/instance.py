"""One canister's code and live state in the WebAssembly engine, and the way back to what it last committed.

A message that traps, or a query, must leave nothing behind. So memory and mutable globals are copied at every commit
and put back on `roll_back`; growing memory cannot be undone, so rolling that back makes a fresh instance.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from hashlib import sha256
from typing import Any, Final

import wasmtime

from devnet.replica import ic0_table
from devnet.replica.messages import Entry
from devnet.replica.module import (
    MEMORY_EXPORT,
    START_EXPORT,
    TABLE_EXPORT,
    ModuleRefused,
    Reachable,
    make_reachable,
    unpacked,
)
from devnet.replica.system_api import CanisterTrapped, SystemApi

PAGE_BYTES: Final = 65_536
MEMORY_BYTES_MAX: Final = 2 << 30
KEEPS_MAIN_MEMORY: Final = "icp:private enhanced-orthogonal-persistence"
_WIDTHS: Final = {"i32": 32, "i64": 64}
_compare = ctypes.CDLL(None).memcmp
_compare.argtypes = (ctypes.c_void_p, ctypes.c_void_p, ctypes.c_size_t)


@lru_cache(maxsize=1)
def _engine() -> wasmtime.Engine:
    config = wasmtime.Config()
    config.wasm_memory64 = True
    config.wasm_multi_value = True
    config.wasm_bulk_memory = True
    config.consume_fuel = True
    return wasmtime.Engine(config)


@dataclass(frozen=True, slots=True)
class Code:
    """A compiled canister module. `digest` is of the bytes as they were installed."""

    installed: bytes
    digest: bytes
    module: wasmtime.Module
    reachable: Reachable

    @property
    def compiled(self) -> bytes:
        """The engine's own form of it. Only for the folder of whoever compiled it: nothing checks such bytes."""
        return bytes(self.module.serialize())

    @property
    def keeps_main_memory(self) -> bool:
        """Whether an upgrade to this module keeps linear memory (enhanced orthogonal persistence)."""
        return KEEPS_MAIN_MEMORY in self.reachable.custom_sections


@lru_cache(maxsize=8)
def compile_module(wasm: bytes) -> Code:
    """Raises `ModuleRefused`, also for what the engine does not take."""
    reachable = make_reachable(unpacked(wasm))
    try:
        module = wasmtime.Module(_engine(), reachable.wasm)
    except wasmtime.WasmtimeError as invalid:
        raise ModuleRefused("invalid", expected="a valid module", got=str(invalid).splitlines()[0]) from None
    _check_imports(module, reachable.pointer)
    return Code(wasm, sha256(wasm).digest(), module, reachable)


def take_up(wasm: bytes, compiled: bytes) -> Code:
    """As `compile_module`, in a moment: with what `Code.compiled` was, if this engine and this processor made it."""
    reachable = make_reachable(unpacked(wasm))
    try:
        return Code(wasm, sha256(wasm).digest(), wasmtime.Module.deserialize(_engine(), compiled), reachable)
    except wasmtime.WasmtimeError:
        return compile_module(wasm)


def _check_imports(module: wasmtime.Module, pointer: str) -> None:
    """Every import is a function of the table, with its type: what is not here is refused by name."""
    for entry in module.imports:
        name, of = f"{entry.module}.{entry.name}", entry.type
        function = _function(entry.name or "", pointer) if entry.module == "ic0" else None
        if function is None or not isinstance(of, wasmtime.FuncType):
            raise ModuleRefused("import", expected="functions of ic0 that are here", got=name)
        if ic0_table.type_of(of) != function.typed(pointer):
            raise ModuleRefused(
                "import.type",
                expected=f"{name} as specified for {pointer}",
                got=f"{len(of.params)} parameters, {len(of.results)} results",
            )


def _function(name: str, pointer: str) -> ic0_table.Function | None:
    return ic0_table.FUNCTIONS.get(name) or (ic0_table.OLD.get(name) if pointer == "i32" else None)


def _bound(api: SystemApi, function: ic0_table.Function, pointer: str) -> Callable[..., Any]:
    """What the module calls: availability first, then the function, with unsigned values either way."""
    run = getattr(api, function.name)
    parameters, results = function.typed(pointer)
    masks = tuple((1 << _WIDTHS[each]) - 1 for each in parameters)
    width = _WIDTHS[results[0]] if results else 0
    name, entries = function.name, function.entries

    def call(*arguments: int) -> int | None:
        entry: Entry = api.message.entry
        if entry not in entries:
            raise CanisterTrapped(f"ic0.{name} is not available in {entry.name.lower()}")
        result = run(*(value & mask for value, mask in zip(arguments, masks, strict=True)))
        if not width:
            return None
        result &= (1 << width) - 1
        return int(result - (1 << width) if result >> (width - 1) else result)

    return call


@dataclass(frozen=True, slots=True)
class Committed:
    """A state to return to. `memory` is reused by later commits of the same instance."""

    memory: bytearray
    global_values: tuple[Any, ...]


class Instance:
    """One canister's code and its live state. The start function has not run: that is the caller's to do."""

    def __init__(self, code: Code, api: SystemApi, memory: bytes | bytearray = b"") -> None:
        self.code = code
        self._linker = wasmtime.Linker(_engine())
        for entry in code.module.imports:
            function, of = _function(entry.name or "", code.reachable.pointer), entry.type
            if function is None or not isinstance(of, wasmtime.FuncType):
                raise ModuleRefused("import", expected="functions of ic0 that are here", got=entry.name)
            bound = _bound(api, function, code.reachable.pointer)
            self._linker.define_func("ic0", function.name, of, bound)
        self._instantiate()
        if memory:
            self._grow_to(len(memory))
            self._write_all(memory)
        self._committed = Committed(bytearray(), ())
        self._saved = bytearray()
        self.commit()

    def _instantiate(self) -> None:
        self.store = wasmtime.Store(_engine())
        self.store.set_fuel(2**63)
        self.store.set_limits(memory_size=MEMORY_BYTES_MAX)
        try:
            self._exports = self._linker.instantiate(self.store, self.code.module).exports(self.store)
        except (wasmtime.Trap, wasmtime.WasmtimeError) as failed:
            raise ModuleRefused("instance", expected="a module that starts", got=str(failed).splitlines()[0]) from None
        memory, table = self._exports.get(MEMORY_EXPORT), self._exports.get(TABLE_EXPORT)
        self._memory = memory if isinstance(memory, wasmtime.Memory) else None
        self._table = table if isinstance(table, wasmtime.Table) else None
        exported = [self._exports[name] for name in self.code.reachable.global_names]
        self._globals = [item for item in exported if isinstance(item, wasmtime.Global)]

    @property
    def memory_bytes(self) -> int:
        return self._memory.data_len(self.store) if self._memory is not None else 0

    def _address(self) -> int:
        if self._memory is None:
            return 0
        return ctypes.addressof(self._memory.data_ptr(self.store).contents)

    def _grow_to(self, size: int) -> None:
        missing = size - self.memory_bytes
        if missing > 0 and self._memory is not None:
            self._memory.grow(self.store, -(-missing // PAGE_BYTES))

    def _write_all(self, content: bytes | bytearray) -> None:
        if not content:
            return
        kept = content if isinstance(content, bytes) else (ctypes.c_char * len(content)).from_buffer(content)
        ctypes.memmove(self._address(), kept, len(content))

    def commit(self) -> None:
        """What is in memory and globals now is what `roll_back` returns to."""
        size = self.memory_bytes
        kept = self._committed.memory
        if len(kept) != size:
            kept = bytearray(size)
        if size:
            ctypes.memmove((ctypes.c_char * size).from_buffer(kept), self._address(), size)
        self._committed = Committed(kept, tuple(item.value(self.store) for item in self._globals))

    def roll_back(self) -> None:
        """Undo everything since the last commit."""
        if self.memory_bytes != len(self._committed.memory):
            self._instantiate()
            self._grow_to(len(self._committed.memory))
        self._write_all(self._committed.memory)
        self._set_globals(self._committed.global_values)

    def _set_globals(self, values: tuple[Any, ...]) -> None:
        for item, value in zip(self._globals, values, strict=True):
            item.set_value(self.store, value)

    # ---- keeping and taking up again

    @property
    def global_values(self) -> tuple[Any, ...]:
        """As last committed."""
        return self._committed.global_values

    def take_unsaved(self) -> dict[int, bytes]:
        """The pages of committed memory that changed since they were taken last, by their numbers."""
        memory = self._committed.memory
        if len(self._saved) < len(memory):
            known, self._saved = len(self._saved), self._saved + bytes(len(memory) - len(self._saved))
        else:
            known = len(memory)
        changed: dict[int, bytes] = {}
        if memory:
            now = ctypes.addressof(ctypes.c_char.from_buffer(memory))
            before = ctypes.addressof(ctypes.c_char.from_buffer(self._saved))
            for at in range(0, len(memory), PAGE_BYTES):
                if at >= known or _compare(now + at, before + at, PAGE_BYTES):
                    changed[at // PAGE_BYTES] = bytes(memory[at : at + PAGE_BYTES])
                    self._saved[at : at + PAGE_BYTES] = memory[at : at + PAGE_BYTES]
        return changed

    def restore(self, memory: bytes, global_values: tuple[Any, ...]) -> None:
        """Put back a state that `take_unsaved` and `global_values` gave in an earlier process."""
        self._grow_to(len(memory))
        self._write_all(memory)
        self._set_globals(global_values)
        self.commit()
        self._saved = bytearray(self._committed.memory)

    def memory_now(self) -> bytes:
        """All of linear memory, uncommitted changes included."""
        return self.read(0, self.memory_bytes)

    # ---- what is in it

    def function(self, name: str) -> wasmtime.Func | None:
        found = self._exports.get(name)
        return found if isinstance(found, wasmtime.Func) else None

    def start(self) -> wasmtime.Func | None:
        return self.function(START_EXPORT)

    def table_entry(self, index: int) -> wasmtime.Func:
        found = self._table.get(self.store, index) if self._table is not None else None
        if not isinstance(found, wasmtime.Func):
            raise CanisterTrapped(f"table entry {index} is no function")
        return found

    def read(self, offset: int, size: int) -> bytes:
        if size == 0:
            return b""
        if self._memory is None or size < 0 or offset < 0 or offset + size > self.memory_bytes:
            raise IndexError(f"read of {size} bytes at {offset} is outside the canister's memory")
        return bytes(self._memory.read(self.store, offset, offset + size))

    def write(self, offset: int, data: bytes) -> None:
        if not data:
            return
        if self._memory is None or offset < 0 or offset + len(data) > self.memory_bytes:
            raise IndexError(f"write of {len(data)} bytes at {offset} is outside the canister's memory")
        self._memory.write(self.store, data, offset)
