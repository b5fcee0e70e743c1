"""boot.md J13: waiting ends when something happens, or when nothing does; never because a total of seconds is over."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator

import pytest

from image_build.boot import progress
from image_build.boot.progress import StandsStill, Watch, moved_bytes, processor_seconds, until


@pytest.fixture
def spinning() -> Iterator[int]:
    """A process that uses its processor and does nothing."""
    with subprocess.Popen([sys.executable, "-c", "while True: pass"]) as process:
        yield process.pid
        process.kill()


@pytest.fixture
def sleeping() -> Iterator[int]:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        yield process.pid
        process.kill()


def test_what_was_waited_for_is_returned() -> None:
    found = iter([None, None, 7])
    assert until("a number", lambda: next(found), Watch([os.getpid()], lambda: None)) == 7


def test_processor_time_without_a_sign_is_standing_still(spinning: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "PROCESSOR_SECONDS_MAX", 0.2)
    with pytest.raises(StandsStill, match=r"waited for rain: 0\.2 s of processor time and no sign; last: dry"):
        until("rain", lambda: None, Watch([spinning], lambda: "dry"))


def test_a_machine_of_many_processors_may_use_as_many_times_the_time(
    spinning: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress, "PROCESSOR_SECONDS_MAX", 0.1)
    with pytest.raises(StandsStill, match=r"waited for rain: 0\.4 s"):
        until("rain", lambda: None, Watch([spinning], lambda: "dry", processors=4))


def test_a_sign_begins_the_count_anew(spinning: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """It changes whenever it is looked at, while ten times the bound is used up."""
    monkeypatch.setattr(progress, "PROCESSOR_SECONDS_MAX", 0.1)
    signs = iter(range(1 << 30))
    began = processor_seconds(spinning)
    watch = Watch([spinning], lambda: next(signs))
    assert until("a second of it", lambda: processor_seconds(spinning) - began > 1 or None, watch)


def test_wanting_no_processor_is_standing_still_too(sleeping: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "IDLE_SECONDS_MAX", 0.2)
    with pytest.raises(StandsStill, match=r"waited for rain: idle for 0\.2 s"):
        until("rain", lambda: None, Watch([sleeping], lambda: None))


def test_a_process_that_is_gone_has_used_and_moved_nothing() -> None:
    with subprocess.Popen([sys.executable, "-c", ""]) as process:
        pass
    assert (processor_seconds(process.pid), moved_bytes(process.pid)) == (0.0, 0)
    assert moved_bytes(os.getpid()) > 0
