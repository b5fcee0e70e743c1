"""A WebAssembly instance whose state can be committed and rolled back as a replica does per message.

`commit` copies linear memory and mutable globals aside; `roll_back` puts the last committed state back. Each
costs one copy of the linear memory (1 to 2 ms for 10 MB), and every message pays for one of them. Memory
cannot shrink in place, so rolling back a message that grew it makes a fresh instance.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import wasmtime

from devnet.wasm_state import START_EXPORT, ModuleRefused, Reachable, make_reachable

PAGE_BYTES = 65_536
KEEPS_MAIN_MEMORY = "icp:private enhanced-orthogonal-persistence"


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
    """A compiled canister module."""

    module: wasmtime.Module
    reachable: Reachable

    @property
    def keeps_main_memory(self) -> bool:
        """Whether an upgrade to this module keeps linear memory (enhanced orthogonal persistence)."""
        return KEEPS_MAIN_MEMORY in self.reachable.custom_sections


@lru_cache(maxsize=8)
def compile_module(wasm: bytes) -> Code:
    reachable = make_reachable(wasm)
    return Code(wasmtime.Module(_engine(), reachable.wasm), reachable)


@dataclass(frozen=True, slots=True)
class Committed:
    """A state to return to. `memory` is reused by later commits of the same instance."""

    memory: bytearray
    global_values: tuple[Any, ...]


class Instance:
    """One canister's code and its live state. The start function has not run: that is the caller's to do."""

    def __init__(
        self, code: Code, imports: Mapping[str, Callable[..., Any]], memory: bytes | bytearray = b""
    ) -> None:
        self.code = code
        self._linker = wasmtime.Linker(_engine())
        for entry in code.module.imports:
            name, of = entry.name or "", entry.type
            if entry.module != "ic0" or name not in imports or not isinstance(of, wasmtime.FuncType):
                raise ModuleRefused("import", expected="a function of ic0 the shim has", got=name)
            self._linker.define_func("ic0", name, of, imports[name])
        self._instantiate()
        if memory:
            self._grow_to(len(memory))
            self._write_all(memory)
        self._committed = Committed(bytearray(), ())
        self.commit()

    def _instantiate(self) -> None:
        self.store = wasmtime.Store(_engine())
        self.store.set_fuel(2**63)
        self._exports = self._linker.instantiate(self.store, self.code.module).exports(self.store)
        memories = [item for item in self._exports.values() if isinstance(item, wasmtime.Memory)]
        tables = [item for item in self._exports.values() if isinstance(item, wasmtime.Table)]
        if len(memories) != 1 or len(tables) != 1:
            got = f"{len(memories)} and {len(tables)}"
            raise ModuleRefused("exports", expected="one memory and one table", got=got)
        self.memory, self._table = memories[0], tables[0]
        exported = [self._exports[name] for name in self.code.reachable.global_names]
        self._globals = [item for item in exported if isinstance(item, wasmtime.Global)]

    def _address(self) -> int:
        return ctypes.addressof(self.memory.data_ptr(self.store).contents)

    def _grow_to(self, size: int) -> None:
        missing = size - self.memory.data_len(self.store)
        if missing > 0:
            self.memory.grow(self.store, -(-missing // PAGE_BYTES))

    def _write_all(self, content: bytes | bytearray) -> None:
        kept = content if isinstance(content, bytes) else (ctypes.c_char * len(content)).from_buffer(content)
        ctypes.memmove(self._address(), kept, len(content))

    def commit(self) -> None:
        """What is in memory and globals now is what `roll_back` returns to."""
        size = self.memory.data_len(self.store)
        kept = self._committed.memory
        if len(kept) != size:
            kept = bytearray(size)
        ctypes.memmove((ctypes.c_char * size).from_buffer(kept), self._address(), size)
        self._committed = Committed(kept, tuple(item.value(self.store) for item in self._globals))

    def roll_back(self) -> None:
        """Undo everything since the last commit."""
        if self.memory.data_len(self.store) != len(self._committed.memory):
            self._instantiate()
            self._grow_to(len(self._committed.memory))
        self._write_all(self._committed.memory)
        for item, value in zip(self._globals, self._committed.global_values, strict=True):
            item.set_value(self.store, value)

    def memory_now(self) -> bytes:
        """All of linear memory, uncommitted changes included."""
        return self.read(0, self.memory.data_len(self.store))

    def function(self, name: str) -> wasmtime.Func | None:
        found = self._exports.get(name)
        return found if isinstance(found, wasmtime.Func) else None

    def start(self) -> wasmtime.Func | None:
        return self.function(START_EXPORT)

    def table_entry(self, index: int) -> wasmtime.Func:
        found = self._table.get(self.store, index)
        if not isinstance(found, wasmtime.Func):
            raise ModuleRefused("callback", expected="a function in the table", got=index)
        return found

    def read(self, offset: int, size: int) -> bytes:
        if size < 0 or offset < 0 or offset + size > self.memory.data_len(self.store):
            raise IndexError(f"read of {size} bytes at {offset} is outside the canister's memory")
        return bytes(self.memory.read(self.store, offset, offset + size))

    def write(self, offset: int, data: bytes) -> None:
        if offset < 0 or offset + len(data) > self.memory.data_len(self.store):
            raise IndexError(f"write of {len(data)} bytes at {offset} is outside the canister's memory")
        self.memory.write(self.store, data, offset)
