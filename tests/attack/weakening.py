"""Taking one defence away, and putting it back."""

from __future__ import annotations

import importlib
import operator
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any


class Patch:
    """Puts values in the place of others, by name: `put("package.module:Class.method", function)`."""

    def __init__(self) -> None:
        self._undo: list[Callable[[], None]] = []

    def put(self, where: str, value: object) -> None:
        owner, name = self._found(where)
        before = owner.__dict__[name]  # a KeyError here: the defence has moved, and so must its attack
        setattr(owner, name, value)
        self._undo.append(lambda: setattr(owner, name, before))

    def now(self, where: str) -> Any:
        """What stands there now."""
        owner, name = self._found(where)
        return getattr(owner, name)

    def undo(self) -> None:
        while self._undo:
            self._undo.pop()()

    @staticmethod
    def _found(where: str) -> tuple[Any, str]:
        module, _, path = where.partition(":")
        *outer, name = path.split(".")
        owner = importlib.import_module(module)
        return (operator.attrgetter(".".join(outer))(owner) if outer else owner), name


@contextmanager
def weakened(weaken: Callable[[Patch], None]) -> Iterator[None]:
    patch = Patch()
    try:
        weaken(patch)
        yield
    finally:
        patch.undo()


def nothing(*_: object, **__: object) -> None:
    """A check that checks nothing."""


def without(*checks: str) -> Callable[[Patch], None]:
    """The weakness that these checks, by name, look at nothing."""

    def weaken(patch: Patch) -> None:
        for each in checks:
            patch.put(each, nothing)

    return weaken


def instead(where: str, value: object) -> Callable[[Patch], None]:
    """The weakness that `value` stands where something careful did."""
    return lambda patch: patch.put(where, value)


def together(*weaknesses: Callable[[Patch], None]) -> Callable[[Patch], None]:
    """Where a defence has two lines, both are taken away."""

    def weaken(patch: Patch) -> None:
        for each in weaknesses:
            each(patch)

    return weaken
