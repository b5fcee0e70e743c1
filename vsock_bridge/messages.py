"""The nine messages of the closed grammar. Immutable; a payload is never rendered."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from enum import IntEnum, unique
from typing import TypeAlias

from vsock_bridge.errors import Code


@unique
class Kind(IntEnum):
    """The first byte of a frame."""

    HELLO = 1
    OPEN = 2
    DATA = 3
    CREDIT = 4
    ACK = 5
    CANCEL = 6
    PING = 7
    ERROR = 8
    BYE = 9


@unique
class Mark(IntEnum):
    """How a DATA frame stands to its position. Every position gets exactly one mark that is not MORE."""

    MORE = 0
    END = 1
    CANCELLED = 2  # the cell only: ended because the host asked
    FAILED = 3  # the cell only: ended because it could not be done; the payload is a short code


@dataclass(frozen=True, slots=True)
class Hello:
    """First in both directions. `identity` is new at every start of its sender: another one means amnesia."""

    lowest: int
    highest: int
    identity: bytes


@dataclass(frozen=True, slots=True)
class Open:
    """Attach a stream to this connection: how many frames the sender has, how many bytes it takes."""

    stream: int
    name: bytes
    received: int
    credit: int


@dataclass(frozen=True, slots=True)
class Data:
    stream: int
    sequence: int
    position: int
    mark: Mark
    payload: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class Credit:
    stream: int
    bytes_more: int


@dataclass(frozen=True, slots=True)
class Ack:
    """Every frame below `received` is the receiver's responsibility now."""

    stream: int
    received: int


@dataclass(frozen=True, slots=True)
class Cancel:
    stream: int
    position: int


@dataclass(frozen=True, slots=True)
class Ping:
    token: int
    reply: bool


@dataclass(frozen=True, slots=True)
class Error:
    """Ends one stream, or the whole connection when `stream` is 0."""

    stream: int
    code: Code
    text: str


@dataclass(frozen=True, slots=True)
class Bye:
    """Nothing more will come from the sender of this."""


Message: TypeAlias = Hello | Open | Data | Credit | Ack | Cancel | Ping | Error | Bye

Tap: TypeAlias = Callable[[bool, Message], None]
"""Shown every message in the order of the wire, once each time it is sent or received; True on the way out."""
