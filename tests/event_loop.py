"""One test's event loop. A test that hangs fails: it is one that is not done and wants no processor either."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Coroutine
from typing import Any, Final

LOOK_SECONDS: Final = 30
IDLE_LOOKS: Final = 4
IDLE_PROCESSOR_SECONDS: Final = 0.02  # between two looks; the look itself takes far less
PROCESSOR_SECONDS_MAX: Final = 300  # a loop without end is a hang too


def run(work: Coroutine[Any, Any, None]) -> None:
    """Whatever else the machine does: what is counted is the processor time of this process."""
    asyncio.run(_watched(work))


async def _watched(work: Coroutine[Any, Any, None]) -> None:
    task = asyncio.create_task(work)
    began = before = time.process_time()
    idle = 0
    while not (await asyncio.wait({task}, timeout=LOOK_SECONDS))[0]:
        now = time.process_time()
        idle = idle + 1 if now - before < IDLE_PROCESSOR_SECONDS else 0
        before = now
        if idle == IDLE_LOOKS or now - began > PROCESSOR_SECONDS_MAX:
            task.cancel()
            await asyncio.wait({task}, timeout=LOOK_SECONDS)
            raise TimeoutError(f"the test hangs: idle for {idle * LOOK_SECONDS} s, {now - began:.0f} s of processor")
    task.result()
