"""The one table of attacks, as docs/threat-model.md has it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from tests.attack.registry import Attack

HEAD: Final = "| attack | defence | tried by |\n|---|---|---|"


def row(one: Attack) -> str:
    return f"| {one.tries} | {one.defence} | `{one.name}`{' (booted)' if one.booted else ''} |"


def table(attacks: Iterable[Attack]) -> str:
    return "\n".join([HEAD, *map(row, attacks)])
