"""Values that cannot be printed.

`Secret` holds a key, `Prompt` what a person asked or was answered. Neither has a rendering: `repr`, `str`,
`format` and a log line give a fixed word (not even the length, which would tell), pickling and JSON refuse.
The bytes come out of `reveal()` and `lend()` alone, words a reviewer can search for.

A secret keeps a copy of its own, and that copy is overwritten when the last reference to it goes, or at once by
`wipe()`. What was revealed is another copy, which Python forgets in its own time: code that handles keys lends them to
what computes with them instead, and takes over what a library returned (`owned`). Nothing here reaches copies inside
libraries.
"""

from __future__ import annotations

import ctypes
import hmac
from collections.abc import Callable
from typing import Final, NoReturn, Self, SupportsIndex


class Hidden:
    """Bytes behind a wall. Use a subclass, whose name says what kind of thing is hidden."""

    __slots__ = ("__value",)
    word: str = "hidden"

    def __init__(self, value: bytes) -> None:
        self.__value: Final = bytes(value)

    def reveal(self) -> bytes:
        """The bytes themselves: for the code that must use them, never for anything that is written."""
        return self.__value

    def __repr__(self) -> str:
        return f"<{self.word}>"

    __str__ = __repr__

    def __format__(self, spec: str) -> str:
        return repr(self)

    def __eq__(self, other: object) -> bool:
        return type(other) is type(self) and isinstance(other, Hidden) and other.reveal() == self.__value

    __hash__ = None  # type: ignore[assignment]  # a hidden value as a dict key would outlive its use

    def __reduce_ex__(self, protocol: SupportsIndex) -> NoReturn:
        raise TypeError(f"{self} is never serialised")


class _Own(bytearray):
    """Bytes that are overwritten once neither their secret nor anyone they were lent to holds them."""

    def __del__(self) -> None:
        self[:] = bytes(len(self))


class Secret(Hidden):
    """A key, or anything a key could be made from."""

    __slots__ = ("__own",)
    word = "secret"

    def __init__(self, value: bytes | bytearray | memoryview) -> None:
        super().__init__(b"")
        self.__own: Final = _Own(value)

    @classmethod
    def filled(cls, size: int, fill: Callable[[bytearray], object]) -> Self:
        """`size` bytes that `fill` writes in their place, so that there is no other copy of them."""
        made = cls(bytes(size))
        fill(made.__own)
        return made

    def reveal(self) -> bytes:
        return bytes(self.__own)

    def lend(self) -> memoryview:
        """The bytes where they lie, for a call that computes with them: they live as long as what was lent."""
        return memoryview(self.__own).toreadonly()

    def wipe(self) -> None:
        """Zeros from now on, for everyone who holds this secret."""
        self.__own[:] = bytes(len(self.__own))

    def __eq__(self, other: object) -> bool:
        if type(other) is not type(self) or not isinstance(other, Secret):
            return False
        return hmac.compare_digest(self.lend(), other.lend())

    __hash__ = None


def owned(returned: bytes) -> Secret:
    """What a library just returned, as a secret. The bytes are overwritten, so nobody else may hold them: neither a
    constant nor somebody's argument."""
    secret = Secret(returned)
    if len(returned) > 1:  # CPython keeps one object for each shorter value
        ctypes.memset(id(returned) + bytes.__basicsize__ - 1, 0, len(returned))
    return secret


class Prompt(Hidden):
    """What a person asked, or what was answered."""

    __slots__ = ()
    word = "prompt"
