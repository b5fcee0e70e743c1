"""Waiting for something that a machine will do, for as long as the machine gets on.

    until("the first answer", lambda: heard, watch=Watch([emulator, device], lambda: len(console)))

No total of seconds is right for every machine: a busy one takes ten times as long. So what is counted is standing
still: the processes used this much processor time, or wanted none for this long, and no sign changed meanwhile.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable, Coroutine, Sequence
from pathlib import Path
from typing import Final, TypeVar

PROCESSOR_SECONDS_MAX: Final = 120  # without a sign; a whole start takes ten
IDLE_SECONDS_MAX: Final = 300  # without a sign and without wanting the processor
LOOK_SECONDS: Final = 0.05
DURING_LOOK_SECONDS: Final = 0.2
_TICKS: Final = os.sysconf("SC_CLK_TCK")
T = TypeVar("T")


class StandsStill(Exception):
    """Nothing happens any more. The text says what was waited for and what there was last."""


class MachineEnded(Exception):
    """While something was waited for; the text says what."""


class Watch:
    """What shows that some processes get on: their signs, which are any value that changes."""

    def __init__(self, processes: Sequence[int], signs: Callable[[], object], processors: int = 1) -> None:
        """`processors`: how many the processes emulate, each of which may wait for the others by spinning."""
        self._processes: Final = processes
        self._processor_seconds_max: Final = PROCESSOR_SECONDS_MAX * processors
        self._signs: Final = signs
        self._start()

    def _start(self) -> None:
        self._seen = self._signs()
        self._used = self._used_before = self._processor_seconds()
        self._idle_since = time.monotonic()

    def look(self, what: str) -> None:
        """Raises `StandsStill` if nothing happened for too long."""
        used = self._processor_seconds()
        if self._signs() != self._seen:
            self._start()
        elif used - self._used_before >= 1:
            self._used_before, self._idle_since = used, time.monotonic()
        if used - self._used > self._processor_seconds_max:
            raise StandsStill(
                f"waited for {what}: {self._processor_seconds_max} s of processor time and no sign; last: {self._seen}"
            )
        if time.monotonic() - self._idle_since > IDLE_SECONDS_MAX:
            raise StandsStill(f"waited for {what}: idle for {IDLE_SECONDS_MAX} s; last: {self._seen}")

    def _processor_seconds(self) -> float:
        return sum(map(processor_seconds, self._processes))


def until(what: str, found: Callable[[], T | None], watch: Watch, every: float = LOOK_SECONDS) -> T:
    """What `found` returns once that is not None. Raises `StandsStill`."""
    while (value := found()) is None:
        watch.look(what)
        time.sleep(every)
    return value


async def during(
    what: str, work: Coroutine[object, object, T], watch: Watch, is_running: Callable[[], bool] = lambda: True
) -> T:
    """Do it as long as something gets on; no total of seconds is waited for."""
    task = asyncio.ensure_future(work)
    try:
        while not (await asyncio.wait({task}, timeout=DURING_LOOK_SECONDS))[0]:
            if not is_running():
                raise MachineEnded(what)
            watch.look(what)
    finally:
        if not task.done():
            task.cancel()
            await asyncio.wait({task})
    return task.result()


def processor_seconds(process: int) -> float:
    """What a process has used so far; nothing for one that is gone."""
    try:
        fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) / _TICKS


def moved_bytes(process: int) -> int:
    """What a process has read and written so far: of disks, a console, a socket."""
    try:
        rows = dict(row.split(": ") for row in Path(f"/proc/{process}/io").read_text().splitlines())
    except OSError:
        return 0
    return int(rows["rchar"]) + int(rows["wchar"])
