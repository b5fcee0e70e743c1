"""The watch over a test's loop tells a hang from a busy machine."""

from __future__ import annotations

import asyncio
import itertools
import time

import pytest

from tests import event_loop


def test_a_task_that_only_waits_is_a_hang(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(event_loop, "LOOK_SECONDS", 0.05)
    with pytest.raises(TimeoutError, match=r"idle for 0\.2 s"):
        event_loop.run(asyncio.Event().wait())


def test_a_task_without_end_is_a_hang(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(event_loop, "LOOK_SECONDS", 0.01)
    monkeypatch.setattr(event_loop, "PROCESSOR_SECONDS_MAX", 0.2)

    async def spin() -> None:
        for _ in itertools.count():
            await asyncio.sleep(0)

    with pytest.raises(TimeoutError, match="the test hangs"):
        event_loop.run(spin())


def test_a_task_that_works_may_take_its_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(event_loop, "LOOK_SECONDS", 0.1)
    monkeypatch.setattr(event_loop, "IDLE_PROCESSOR_SECONDS", 0.001)
    done = []

    async def work() -> None:
        ends = time.process_time() + 0.7  # many looks, each of which sees it at work
        for _ in iter(lambda: time.process_time() < ends, False):
            await asyncio.sleep(0)
        done.append(True)

    event_loop.run(work())
    assert done == [True]


def test_what_a_task_raises_is_raised() -> None:
    async def fail() -> None:
        raise LookupError("of the test")

    with pytest.raises(LookupError, match="of the test"):
        event_loop.run(fail())
