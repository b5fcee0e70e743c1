"""The one table of attacks, as docs/threat-model.md has it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from tests.attack.registry import Attack, ByHand

HEAD: Final = "| attack | defence | tried by |\n|---|---|---|"


def row(one: Attack) -> str:
    return f"| {one.tries} | {one.defence} | `{one.name}`{' *' if isinstance(one.weaken, ByHand) else ''} |"


def table(attacks: Iterable[Attack]) -> str:
    return "\n".join([HEAD, *map(row, attacks)])
