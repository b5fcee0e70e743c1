"""Two runs of one request held against each other, and how many of many differ.

Pure: what ran, and where, is not known here. A place that only one of the two has differs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from itertools import zip_longest
from typing import Self


@dataclass(frozen=True, slots=True)
class Run:
    """An answer token by token: the token, the digest of the way to it, and of all logits where they were seen."""

    tokens: tuple[int, ...]
    traces: tuple[bytes, ...]
    logits: tuple[bytes, ...] = ()


@dataclass(frozen=True, slots=True)
class Tally:
    """Counts that add up."""

    runs: int = 0
    runs_tokens: int = 0  # runs with at least one other token
    runs_traces: int = 0  # runs with at least one other trace digest
    tokens: int = 0  # compared
    tokens_differing: int = 0
    traces_differing: int = 0
    logits: int = 0  # rows of logits compared whole
    logits_differing: int = 0

    def __add__(self, other: Self) -> Tally:
        return Tally(*(getattr(self, field.name) + getattr(other, field.name) for field in fields(Tally)))

    @property
    def same(self) -> bool:
        return not (self.tokens_differing or self.traces_differing or self.logits_differing)

    def as_dict(self) -> dict[str, int]:
        return asdict(self)

    def __str__(self) -> str:
        return f"{self.runs_tokens:,} / {self.runs_traces:,} of {self.runs:,}"


def differing(expected: Sequence[object], seen: Sequence[object]) -> int:
    absent = object()  # equal to nothing that a run may hold
    return sum(a != b for a, b in zip_longest(expected, seen, fillvalue=absent))


def compared(expected: Run, seen: Run) -> Tally:
    """One run. Logits count only where both were seen whole."""
    tokens, traces = differing(expected.tokens, seen.tokens), differing(expected.traces, seen.traces)
    whole = bool(expected.logits and seen.logits)
    return Tally(
        runs=1,
        runs_tokens=int(tokens > 0),
        runs_traces=int(traces > 0),
        tokens=max(len(expected.tokens), len(seen.tokens)),
        tokens_differing=tokens,
        traces_differing=traces,
        logits=max(len(expected.logits), len(seen.logits)) if whole else 0,
        logits_differing=differing(expected.logits, seen.logits) if whole else 0,
    )
