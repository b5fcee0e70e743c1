"""The three ports of the one window, and what each is for."""

from __future__ import annotations

from enum import IntEnum, unique


@unique
class Port(IntEnum):
    STREAM = 5000       # slices in, answers out
    RELEASE = 5001      # the broker's messages, carried by the host, opaque to it
    OBSERVE = 5002      # health and aggregate figures
