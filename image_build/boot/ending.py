"""What a machine says of its end, and what the emulator says. docs/spec/boot.md J8 to J11.

    anchorhold end cell 71\\n

A guest is hostile until it is proven otherwise, and one that ends never will be: the line is a closed grammar, kept for
people, and nothing is decided by it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum, IntEnum
from types import MappingProxyType
from typing import Final

LINE_BYTES_MAX: Final = 64
_LINE: Final = re.compile(rb"anchorhold end (machine|cell) (0|[1-9][0-9]{0,2})\n")
_SIGNAL_BASE: Final = 128
CODE_MAX: Final = 255


class Stage(Enum):
    MACHINE = "machine"  # process 1: what must hold before the cell may start
    CELL = "cell"  # the cell itself


class Code(IntEnum):
    """J10: with which status a cell ends."""

    STOPPED = 0
    REFUSED_TO_START = 1
    ENGINE_FAILED = 70
    MODEL_REFUSED = 71
    RELEASE_FAILED = 72
    ENGINE_REFUSED = 73
    KEY_REFUSED = 74
    NOT_STARTED = 126


MEANS: Final[Mapping[Code, str]] = MappingProxyType(
    {
        Code.STOPPED: "told to stop",
        Code.REFUSED_TO_START: "refused to start: configuration, engine or TEE",
        Code.ENGINE_FAILED: "the engine failed",
        Code.MODEL_REFUSED: "the pack beside it is not the model it was measured for",
        Code.RELEASE_FAILED: "no broker gave it a key",
        Code.ENGINE_REFUSED: "the engine is not what its profile states, or does not say what it must",
        Code.KEY_REFUSED: "the key that the broker gave does not open the pack beside it",
        Code.NOT_STARTED: "process 1 could not start it",
    }
)


class How(Enum):
    """As the emulator saw it."""

    POWER_OFF = "power-off"  # orderly, with a line if somebody listened
    RESTART = "restart"  # the kernel gave up: a block of the root that is not what was measured, or a panic
    STOPPED = "stopped"  # the host did it
    UNKNOWN = "unknown"


REASONS: Final[Mapping[str, How]] = MappingProxyType(
    {
        "guest-shutdown": How.POWER_OFF,
        "guest-reset": How.RESTART,
        "guest-panic": How.RESTART,
        "host-qmp-quit": How.STOPPED,
        "host-signal": How.STOPPED,
        "host-ui": How.STOPPED,
    }
)


@dataclass(frozen=True, slots=True)
class EndLine:
    stage: Stage
    code: int


@dataclass(frozen=True, slots=True)
class Ending:
    how: How
    told: EndLine | None

    @property
    def means(self) -> str:
        if self.told is None:
            return {
                How.POWER_OFF: "powered off without a word",
                How.RESTART: "the kernel gave up: the root's bytes are not those measured, or it panicked",
                How.STOPPED: "stopped by the host",
                How.UNKNOWN: "the emulator ended by itself",
            }[self.how]
        return _meaning(self.told)


def _meaning(told: EndLine) -> str:
    match told.stage:
        case Stage.MACHINE:
            return "a rule of the sealed root did not take"
        case Stage.CELL if told.code in MEANS:
            return MEANS[Code(told.code)]
        case _ if told.code > _SIGNAL_BASE:
            return f"the cell was ended by signal {told.code - _SIGNAL_BASE}"
        case _:
            return "a status of no meaning"


def parse_line(raw: bytes) -> EndLine | None:
    """The line, or None for any other bytes: a guest that does not speak so says nothing."""
    found = _LINE.fullmatch(raw) if len(raw) <= LINE_BYTES_MAX else None
    if found is None or int(found[2]) > CODE_MAX:
        return None
    return EndLine(Stage(found[1].decode()), int(found[2]))
