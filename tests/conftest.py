"""What holds for every test: no measured time, since a busy machine is not a fault; and logs end with their test."""

from __future__ import annotations

import logging
import sys
import threading
from collections.abc import Generator, Iterator
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any, TypeVar

import pytest
import structlog
from hypothesis import settings

from tests import skips, switches

if TYPE_CHECKING:
    from tests.little_broker import LittleBroker, MakeBroker

settings.register_profile("steady", deadline=None)
settings.load_profile("steady")


@pytest.fixture(autouse=True)
def _logs_of_one_test() -> Iterator[None]:
    """A verb that sets up logs does so for its whole process: here that is a test's, and its stream is closed after."""
    hooks = sys.excepthook, sys.unraisablehook, threading.excepthook
    handlers, level = logging.root.handlers[:], logging.root.level
    yield
    sys.excepthook, sys.unraisablehook, threading.excepthook = hooks
    logging.captureWarnings(False)
    logging.root.handlers[:] = handlers
    logging.root.setLevel(level)
    structlog.reset_defaults()


@pytest.fixture
def make_broker() -> Iterator[MakeBroker]:
    from tests.little_broker import LittleBroker

    with ExitStack() as stack:

        def make(*arguments: Any, **named: Any) -> LittleBroker:
            made = LittleBroker.make(*arguments, **named)
            stack.callback(made.store.close)
            return made

        yield make


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    return _required((yield))


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report() -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    return _required((yield))


Report = TypeVar("Report", pytest.TestReport, pytest.CollectReport)


def _required(report: Report) -> Report:
    """A skip is a failure where every test is required, but for the reasons that `tests.skips` allows."""
    if report.outcome == "skipped" and not hasattr(report, "wasxfail") and switches.flag(switches.REQUIRE_ALL):
        reason = str(report.longrepr[2] if isinstance(report.longrepr, tuple) else report.longrepr)
        reason = reason.removeprefix("Skipped: ")
        if not skips.allowed(reason):
            report.outcome = "failed"
            report.longrepr = f"skipped, where {switches.REQUIRE_ALL} allows that to none but tests/skips.py: {reason}"
    return report
