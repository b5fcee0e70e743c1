"""What an attack is, and all of them by name."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, TypeAlias

from tests.attack.outcome import Outcome
from tests.attack.room import Room
from tests.attack.weakening import Patch

SUBJECTS: Final = (
    "order",
    "window",
    "text",
    "sealed",
    "broker",
    "evidence",
    "grants",
    "releases",
    "receipts",
    "governance",
    "pack",
    "image",
    "machine",
    "files",
    "gateway",
)


Weaken: TypeAlias = Callable[[Patch], None]


@dataclass(frozen=True, slots=True)
class Attack:
    name: str  # subject, a dot, and what is tried
    tries: str
    defence: str  # with the rules it stands on
    run: Callable[[Room], Outcome]
    weaken: Weaken
    booted: bool = False  # it needs the booted machine


_ALL: Final[dict[str, Attack]] = {}


def attack(
    name: str, *, tries: str, defence: str, without: Weaken, booted: bool = False
) -> Callable[[Callable[[Room], Outcome]], Callable[[Room], Outcome]]:
    """Registers the function below it; its module is the subject."""

    def registered(run: Callable[[Room], Outcome]) -> Callable[[Room], Outcome]:
        add(Attack(f"{run.__module__.rpartition('.')[2]}.{name}", tries, defence, run, without, booted))
        return run

    return registered


def add(one: Attack) -> None:
    if one.name in _ALL:
        raise ValueError(f"two attacks are called {one.name}")
    _ALL[one.name] = one


def every() -> dict[str, Attack]:
    """All attacks, in the order of their subjects."""
    for subject in SUBJECTS:
        importlib.import_module(f"tests.attack.{subject}")
    return dict(sorted(_ALL.items(), key=lambda item: SUBJECTS.index(item[0].partition(".")[0])))


def named(name: str) -> Attack:
    """One attack; its own subject is imported and no other."""
    importlib.import_module(f"tests.attack.{name.partition('.')[0]}")
    return _ALL[name]
