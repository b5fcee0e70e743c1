"""The three ports of the one window, what each is for, and what each may hold."""

from __future__ import annotations

from enum import IntEnum, unique
from typing import Final

from vsock_bridge.limits import SIDE_PORT, Limits


@unique
class Port(IntEnum):
    STREAM = 5000  # slices in, answers out
    RELEASE = 5001  # the broker's messages, carried by the host, opaque to it
    OBSERVE = 5002  # health and aggregate figures


PORT_LIMITS: Final = {Port.STREAM: Limits(), Port.RELEASE: SIDE_PORT, Port.OBSERVE: SIDE_PORT}
