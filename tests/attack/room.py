"""What an attack runs in: a folder of its own, and real processes, with or without its defence."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from foundation.refusal import Refused
from tests.attack.outcome import Outcome, Unexpected, broken, held


@dataclass(frozen=True, slots=True)
class Room:
    folder: Path
    undefended: str | None = None  # the attack whose defence is taken away

    def python(self, module: str) -> list[str]:
        """The words that start a module of ours as a process: without the defence where the attack runs so."""
        if self.undefended is None:
            return [sys.executable, "-m", module]
        return [sys.executable, "-m", "tests.attack.weakened", self.undefended, module]


def refused_as(code: str, work: Callable[[], object], *, kind: type[Refused] = Refused) -> Outcome:
    """Held if `work` is refused with this very code, broken if it is not refused."""
    try:
        got = work()
    except kind as refusal:
        if refusal.code != code:
            raise Unexpected(f"expected {code}, got {refusal}") from refusal
        return held(f"refused: {code}")
    return broken(f"taken: {str(got)[:60]}" if got is not None else "taken")


def judged(got: str, code: str, *, taken: str) -> Outcome:
    """Of what came back in words: held for the refusal `code`, broken for `taken`, and anything else is unexpected."""
    if got == code:
        return held(f"refused: {code}")
    if got == taken:
        return broken(f"not refused: {taken}")
    raise Unexpected(f"expected {code} or {taken}, got {got}")
