"""A progress bar on standard error, if it is a terminal; otherwise nothing."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import Final, Self, TextIO

_WIDTH: Final = 30
_REDRAW_SECONDS: Final = 0.1


class Bar:
    """Call it with (done, total) in bytes; use it as a context manager, so that its line ends."""

    def __init__(self, label: str, stream: TextIO | None = None, clock: Callable[[], float] = time.monotonic) -> None:
        self._label = label
        self._stream = sys.stderr if stream is None else stream
        self._clock = clock
        self._began = clock()
        self._drawn = float("-inf")
        self._shown = self._stream.isatty()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._shown and self._drawn > float("-inf"):
            self._stream.write("\n")
            self._stream.flush()

    def __call__(self, done: int, total: int) -> None:
        now = self._clock()
        if not self._shown or (done < total and now - self._drawn < _REDRAW_SECONDS):
            return
        self._drawn = now
        self._stream.write(f"\r{self._line(done, total, now - self._began)}\x1b[K")
        self._stream.flush()

    def _line(self, done: int, total: int, seconds: float) -> str:
        share = done / total if total else 1.0
        filled = int(share * _WIDTH)
        rate = done / seconds / 1e6 if seconds > 0 else 0.0
        return f"{self._label} [{'#' * filled}{'.' * (_WIDTH - filled)}] {share:4.0%}  {rate:,.0f} MB/s"
