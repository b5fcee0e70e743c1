"""Values that cannot be printed.

`Secret` holds a key, `Prompt` what a person asked or was answered. Neither has a rendering: `repr`, `str`,
`format` and a log line give a fixed word (not even the length, which would tell), pickling and JSON refuse.
The bytes come out of `reveal()` alone, a word a reviewer can search for.
"""

from __future__ import annotations

from typing import Final, NoReturn, SupportsIndex


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


class Secret(Hidden):
    """A key, or anything a key could be made from."""

    __slots__ = ()
    word = "secret"


class Prompt(Hidden):
    """What a person asked, or what was answered."""

    __slots__ = ()
    word = "prompt"
