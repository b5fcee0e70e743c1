r"""JSON read forward, once, out of a text that anybody may have written.

    scan = Scan('{"a": [1, "x\n"]}')
    for key in scan.members():              each key, with the scan standing before its value
        value = scan.written(depth=1)       as it was written; `string()` gives a text as what it says

A scan never steps back. Every pattern is possessive throughout and its alternatives differ in their first character,
so that a match looks at what it takes and at one character more; a match that fails, and a mark that is not found,
ends the reading. So a text of n characters costs at most LOOKS_MAX * (n + 1) looks, whatever it says (text.md L31).
`looks` counts them, for a test to hold against that bound. Nothing recurses: nesting is a list of what is open.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Final

DEPTH_MAX: Final = 32
LOOKS_MAX: Final = 8
_BLANK: Final = re.compile(r"[ \t\n\r]*+")
_STRING: Final = re.compile(r'"[^"\\\x00-\x1f]*+(?:\\(?:["\\/bfnrt]|u[0-9A-Fa-f]{4})[^"\\\x00-\x1f]*+)*+"')
_PLAIN: Final = re.compile(r"-?+(?:0|[1-9][0-9]*+)(?:\.[0-9]++)?+(?:[eE][-+]?+[0-9]++)?+|true|false|null")
_SURROGATE: Final = re.compile("[\ud800-\udfff]")
_CLOSER: Final = {"{": "}", "[": "]"}


class Unfit(Exception):
    """The text does not go on as it would have to. It says nothing of the text."""


class Scan:
    """A place in a text, and how many characters were looked at on the way to it."""

    def __init__(self, text: str) -> None:
        self._text: Final = text
        self._at = 0
        self.looks = 0

    def before(self, mark: str) -> str | None:
        """What stands before `mark`, which is passed; None, with the scan where it was, if there is none."""
        found = self._text.find(mark, self._at)
        if found < 0:
            self.looks += len(self._text) - self._at
            return None
        before, self._at = self._text[self._at : found], found + len(mark)
        self.looks += 2 * len(before) + len(mark)  # once for the mark, once for whoever strips it
        return before

    def at_end(self) -> bool:
        self._take(_BLANK)
        return self._at == len(self._text)

    def sees(self, mark: str) -> bool:
        """Whether `mark` comes, behind blanks."""
        self._take(_BLANK)
        self.looks += len(mark)
        return self._text.startswith(mark, self._at)

    def past(self, mark: str) -> None:
        if not self.sees(mark):
            raise Unfit
        self._at += len(mark)

    def members(self) -> Iterator[str]:
        """The keys of an object. Whoever asks for the next has read the value of the one before."""
        self.past("{")
        if not self.sees("}"):
            yield self._key()
            while self.sees(","):
                self.past(",")
                yield self._key()
        self.past("}")

    def string(self) -> str:
        """A text as what it says. A lone surrogate is no character, so what holds one is no text."""
        self._take(_BLANK)
        written = self._take(_STRING)
        self.looks += 2 * len(written)
        said: str = json.loads(written)
        if _SURROGATE.search(said):
            raise Unfit
        return said

    def written(self, depth: int) -> str:
        """Any value as it was written, where `depth` objects and lists are open around it."""
        self._take(_BLANK)
        begin = self._at
        opened: list[str] = []
        while True:
            self._begin(opened, depth)
            if not self._close(opened):
                return self._text[begin : self._at]

    def _begin(self, opened: list[str], depth: int) -> None:
        """Up to the end of a value that holds no other."""
        while (mark := self._next()) in _CLOSER:
            if depth + len(opened) >= DEPTH_MAX:
                raise Unfit
            self._at += 1
            opened.append(_CLOSER[mark])
            if self._next() == opened[-1]:
                return
            if mark == "{":
                self._name()
        self._take(_STRING if mark == '"' else _PLAIN)

    def _close(self, opened: list[str]) -> bool:
        """Up to where the next value of what is still open begins; False once nothing is."""
        while opened:
            mark = self._next()
            self._at += 1
            if mark == ",":
                if opened[-1] == "}":
                    self._name()
                return True
            if mark != opened.pop():
                raise Unfit
        return False

    def _key(self) -> str:
        key = self.string()
        self.past(":")
        return key

    def _name(self) -> None:
        self._take(_BLANK)
        self._take(_STRING)
        self.past(":")

    def _next(self) -> str:
        """The character behind blanks; "" at the end."""
        self._take(_BLANK)
        self.looks += 1
        return self._text[self._at : self._at + 1]

    def _take(self, pattern: re.Pattern[str]) -> str:
        found = pattern.match(self._text, self._at)
        if found is None:
            self.looks += len(self._text) - self._at
            raise Unfit
        self.looks += len(found[0]) + 1
        self._at = found.end()
        return found[0]
