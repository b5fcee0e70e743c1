"""What a canister's controllers set, and whether it runs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum


class Status(Enum):
    RUNNING = 1
    STOPPING = 2
    STOPPED = 3


@dataclass(frozen=True, slots=True)
class Settings:
    """What controllers set. Allocations and limits are told back and not enforced; the rest is."""

    controllers: frozenset[bytes] = frozenset()
    compute_allocation: int = 0
    memory_allocation: int = 0
    freezing_threshold: int = 2_592_000
    reserved_cycles_limit: int = 5_000_000_000_000
    wasm_memory_limit: int = 3 << 30
    wasm_memory_threshold: int = 0
    logs_public: bool = False
    environment: Mapping[str, str] = field(default_factory=dict)
