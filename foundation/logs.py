"""Structured logs that cannot quote.

A line is JSON on standard error: an event word and values that are numbers, enums, short words of ours or digests.
Whatever is hidden (`secrecy`) shows as its word; raw bytes show as nothing but the fact; an exception shows as its
type, its place in our code and, if it is a refusal of ours, its stage and code: never its text, since the text of
somebody else's exception may quote what it choked on. docs/spec/secrecy.md S3 to S8.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import sys
import threading
import traceback
from collections.abc import Mapping, MutableMapping
from enum import Enum
from types import TracebackType
from typing import Any, Final, TextIO

import structlog

from foundation.refusal import Refused
from foundation.secrecy import Hidden

WORD_CHARACTERS_MAX: Final = 120
DEPTH_MAX: Final = 4
FRAMES_MAX: Final = 8


def printable(value: object, depth: int = 0) -> object:
    """What a log may show of `value`."""
    match value:
        case Hidden():
            return repr(value)
        case Enum():
            return value.name
        case None | bool() | int() | float():
            return value
        case str():
            return value if len(value) <= WORD_CHARACTERS_MAX else f"<{len(value)} characters>"
        case bytes() | bytearray() | memoryview():
            return "<bytes>"
        case BaseException():
            return described(value)
        case Mapping() if depth < DEPTH_MAX:
            return {str(printable(name, depth + 1)): printable(each, depth + 1) for name, each in value.items()}
        case list() | tuple() | set() | frozenset() if depth < DEPTH_MAX:
            return [printable(each, depth + 1) for each in value]
        case _:
            return f"<{type(value).__name__}>"


def described(reason: BaseException) -> dict[str, object]:
    """An exception without its text: type, code if it is ours or the system's, and where it came by."""
    shown: dict[str, object] = {"type": type(reason).__name__}
    if isinstance(reason, Refused):
        shown |= {"stage": reason.stage, "code": reason.code}
    if isinstance(reason, OSError) and reason.errno is not None:
        shown["errno"] = errno.errorcode.get(reason.errno, reason.errno)
    frames = traceback.extract_tb(reason.__traceback__)[-FRAMES_MAX:]
    shown["at"] = [f"{frame.filename.rpartition('/')[2]}:{frame.lineno}" for frame in frames]
    return shown


def _cannot_quote(_logger: object, _method: str, event: MutableMapping[str, Any]) -> Mapping[str, Any]:
    """The one processor every line passes: structlog's own rendering of exceptions is never reached."""
    reason = event.pop("exc_info", None)
    event.pop("stack_info", None)
    shown = {name: printable(value) for name, value in event.items()}
    if reason:
        current = sys.exc_info()[1] if reason is True else reason[1] if isinstance(reason, tuple) else reason
        shown["exception"] = described(current) if isinstance(current, BaseException) else None
    return shown


class _QuietHandler(logging.Handler):
    """Other libraries' log lines: their logger, level and place; never their text."""

    def emit(self, record: logging.LogRecord) -> None:
        reason = record.exc_info[1] if record.exc_info else None
        at = f"{record.filename}:{record.lineno}"
        structlog.get_logger().log(_known_level(record.levelno), "library", logger=record.name, at=at, exc_info=reason)


def _known_level(level: int) -> int:
    """The standard level at or below a library's own: structlog knows no others."""
    return max(10, min(50, level // 10 * 10))


def set_up(stream: TextIO | None = None, *, level: int = logging.INFO) -> None:
    """Every log line, uncaught exception and forgotten task of this process goes through here from now on."""
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            _cannot_quote,
            structlog.processors.JSONRenderer(sort_keys=True),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.WriteLoggerFactory(file=stream or sys.stderr),
        cache_logger_on_first_use=False,
    )
    logging.basicConfig(handlers=[_QuietHandler()], level=logging.WARNING, force=True)
    logging.captureWarnings(True)
    sys.excepthook = _on_uncaught
    sys.unraisablehook = lambda unraisable: _tell("unraisable", unraisable.exc_value)
    threading.excepthook = lambda arguments: _tell("thread died", arguments.exc_value)


def on_loop_exception(_loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """For `loop.set_exception_handler`: asyncio's own handler prints messages and reprs."""
    _tell("event loop", context.get("exception"))


def _on_uncaught(_kind: type[BaseException], reason: BaseException, _trace: TracebackType | None) -> None:
    _tell("uncaught", reason)


def _tell(event: str, reason: BaseException | None) -> None:
    structlog.get_logger().error(event, exc_info=reason)
