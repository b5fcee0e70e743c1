"""key-release.md R20: killed before each statement and each commit of a release in turn, one after the other, the
broker never has a grant in a client's hands that is not in the log, and its store and log agree.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa

from tests import postgres
from tests.little_broker import MODEL_KEY, LittleBroker, LittleCell, MakeBroker
from tests.little_tee import snp_tee

POINTS_MAX = 200


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=[pytest.mark.postgres, postgres.NEEDED])])
def little(request: pytest.FixtureRequest, tmp_path: Path, make_broker: MakeBroker) -> Iterator[LittleBroker]:
    if request.param == "sqlite":
        yield make_broker(tmp_path)
        return
    with postgres.cluster() as url:
        made = make_broker(tmp_path, url=url)
        yield made
        made.store.close()


def killed_at(little: LittleBroker, point: int) -> tuple[bool, bytes]:
    """One release in a child that kills itself at `point`: whether it came to its end, and what reached a client."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        little.store.engine.dispose(close=False)  # the parent's connections are not ours to use
        left = [point]

        def count(*_: object) -> None:
            left[0] -= 1
            if left[0] == 0:
                os.kill(os.getpid(), signal.SIGKILL)

        sa.event.listen(little.store.engine, "before_cursor_execute", count)
        sa.event.listen(little.store.engine, "commit", count)
        cell = LittleCell(snp_tee()).admitted(little.broker)
        context, _ = cell.open(cell.fetch(little.broker, MODEL_KEY), little.public)
        os.write(writing, context.decision)
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        received = pipe.read()
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0, received


def test_killed_at_every_point_of_a_release(little: LittleBroker) -> None:
    little.store.engine.dispose()
    for point in range(1, POINTS_MAX):
        before = little.audit()
        finished, received = killed_at(little, point)
        assert little.audit() >= before
        logged = {entry.digest for entry in little.entries()[before:] if entry.kind == "granted"}
        assert {received} - {b""} <= logged
        little.store.engine.dispose()
        if finished:
            break
    assert finished
    assert received
    assert point > 20, point
