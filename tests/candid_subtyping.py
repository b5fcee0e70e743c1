"""Candid's interface files and its subtyping, for one question: do old clients still understand a new service?

Subtyping as the Candid specification has it, with one thing stricter: a field that turns into an option of another
type is a difference here, where the specification reads it as null. Enough of the language for canisters' interfaces:
no imports.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import zip_longest
from typing import TypeAlias

TOKEN = re.compile(r"\s+|//[^\n]*|/\*.*?\*/|(->|[A-Za-z_]\w*|\"[^\"]*\"|\d+|[{}():;=,])", re.DOTALL)
PRIMITIVES = frozenset(
    {
        "null",
        "bool",
        "nat",
        "int",
        "text",
        "reserved",
        "empty",
        "principal",
        "float32",
        "float64",
        "nat8",
        "nat16",
        "nat32",
        "nat64",
        "int8",
        "int16",
        "int32",
        "int64",
    }
)


@dataclass(frozen=True, slots=True)
class Named:
    """A primitive, or a definition."""

    name: str


@dataclass(frozen=True, slots=True)
class Of:
    """`opt` or `vec` of something."""

    kind: str
    inside: Type


@dataclass(frozen=True, slots=True)
class Fields:
    """`record` or `variant`."""

    kind: str
    fields: tuple[tuple[str, Type], ...]


@dataclass(frozen=True, slots=True)
class Function:
    arguments: tuple[Type, ...]
    results: tuple[Type, ...]
    modes: frozenset[str]


Type: TypeAlias = Named | Of | Fields | Function


@dataclass(frozen=True, slots=True)
class Interface:
    types: Mapping[str, Type]
    methods: Mapping[str, Type]


def read_interface(text: str) -> Interface:
    reader = _Reader(text)
    types: dict[str, Type] = {}
    while reader.take("type"):
        name = reader.word()
        reader.expect("=")
        types[name] = reader.type()
        reader.take(";")
    reader.expect("service")
    if not reader.take(":"):
        reader.word()
        reader.expect(":")
    if reader.peek() == "(":
        reader.tuple()
        reader.expect("->")
    methods = dict(reader.braced())
    return Interface(types, methods)


class _Reader:
    def __init__(self, text: str) -> None:
        self._tokens: list[str] = []
        at = 0
        while at < len(text):
            found = TOKEN.match(text, at)
            if found is None:
                raise ValueError(f"no Candid at {text[at : at + 20]!r}")
            if found[1] is not None:
                self._tokens.append(found[1])
            at = found.end()
        self._at = 0

    def peek(self) -> str:
        return self._tokens[self._at] if self._at < len(self._tokens) else ""

    def take(self, token: str) -> bool:
        if self.peek() != token:
            return False
        self._at += 1
        return True

    def expect(self, token: str) -> None:
        if not self.take(token):
            raise ValueError(f"expected {token}, got {self.peek()!r}")

    def word(self) -> str:
        self._at += 1
        return self._tokens[self._at - 1].strip('"')

    def type(self) -> Type:
        word = self.word()
        match word:
            case "opt" | "vec":
                return Of(word, self.type())
            case "blob":
                return Of("vec", Named("nat8"))
            case "record" | "variant":
                return Fields(word, tuple(self.braced()))
            case "func":
                return self.function()
            case _:
                return Named(word)

    def function(self) -> Function:
        arguments = self.tuple()
        self.expect("->")
        results = self.tuple()
        modes = set()
        while self.peek() in {"query", "oneway", "composite_query"}:
            modes.add(self.word())
        return Function(arguments, results, frozenset(modes))

    def tuple(self) -> tuple[Type, ...]:
        self.expect("(")
        found: list[Type] = []
        while not self.take(")"):
            if self._tokens[self._at + 1] == ":":  # a name for people
                self._at += 2
            found.append(self.type())
            self.take(",")
        return tuple(found)

    def braced(self) -> Iterator[tuple[str, Type]]:
        self.expect("{")
        while not self.take("}"):
            name = self.word()
            if self.take(":"):
                yield name, self.function() if self.peek() == "(" else self.type()
            else:
                yield name, Named("null")
            self.take(";")


def differences(new: Interface, old: Interface) -> list[str]:
    """Why a client of `old` would not understand `new`; nothing if it would."""
    check = _Check(new, old)
    return [why for name, of in old.methods.items() for why in check.method(name, of)]


class _Check:
    def __init__(self, new: Interface, old: Interface) -> None:
        self._new, self._old = new, old
        self._assumed: set[tuple[Type, Type, bool]] = set()

    def method(self, name: str, old: Type) -> Iterator[str]:
        new = self._new.methods.get(name)
        if new is None:
            yield f"{name}: is gone"
        else:
            yield from self.below(new, old, name, forward=True)

    def _resolved(self, of: Type, new: bool) -> Type:
        types = (self._new if new else self._old).types
        while isinstance(of, Named) and of.name not in PRIMITIVES:
            of = types[of.name]
        return of

    def below(self, sub: Type, sup: Type, at: str, *, forward: bool) -> Iterator[str]:
        """`forward`: `sub` is the new interface's; else, as in arguments, it is the old one's."""
        if (sub, sup, forward) in self._assumed:
            return
        self._assumed.add((sub, sup, forward))
        found, wanted = self._resolved(sub, forward), self._resolved(sup, not forward)
        match found, wanted:
            case _, Named("reserved"):
                return
            case Named("empty"), _:
                return
            case Named(name), Named(other) if name == other or (name, other) == ("nat", "int"):
                return
            case Named("null"), Of("opt"):
                return
            case Of(kind, inside), Of(other, outside) if kind == other:
                yield from self.below(inside, outside, f"{at}.{kind}", forward=forward)
            case _, Of("opt", outside) if not isinstance(found, Of) or found.kind != "opt":
                yield from self.below(sub, outside, at, forward=forward)
            case Fields("record", fields), Fields("record", others):
                yield from self._records(dict(fields), dict(others), at, forward)
            case Fields("variant", fields), Fields("variant", others):
                yield from self._variants(dict(fields), dict(others), at, forward)
            case Function(), Function():
                yield from self._functions(found, wanted, at, forward)
            case _:
                yield f"{at}: another kind of type"

    def _records(self, fields: Mapping[str, Type], wanted: Mapping[str, Type], at: str, forward: bool) -> Iterator[str]:
        for name, of in wanted.items():
            if name in fields:
                yield from self.below(fields[name], of, f"{at}.{name}", forward=forward)
            elif not self._may_be_absent(self._resolved(of, not forward)):
                yield f"{at}.{name}: is missing"

    @staticmethod
    def _may_be_absent(of: Type) -> bool:
        return (isinstance(of, Of) and of.kind == "opt") or of in (Named("null"), Named("reserved"))

    def _variants(
        self, fields: Mapping[str, Type], wanted: Mapping[str, Type], at: str, forward: bool
    ) -> Iterator[str]:
        for name, of in fields.items():
            if name not in wanted:
                yield f"{at}.{name}: is a case that was not there"
            else:
                yield from self.below(of, wanted[name], f"{at}.{name}", forward=forward)

    def _functions(self, new: Function, old: Function, at: str, forward: bool) -> Iterator[str]:
        if new.modes != old.modes:
            yield f"{at}: another mode"
        pairs = zip_longest(old.arguments, new.arguments, fillvalue=Named("null"))
        for number, (given, taken) in enumerate(pairs):
            yield from self.below(given, taken, f"{at}(argument {number})", forward=not forward)
        results = zip_longest(new.results, old.results, fillvalue=Named("null"))
        for number, (given, taken) in enumerate(results):
            yield from self.below(given, taken, f"{at}(result {number})", forward=forward)
