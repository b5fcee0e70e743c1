"""Chunk after chunk on several threads: the lowest chunk that fails is the one that is named.

Hashing and AES-GCM leave the interpreter's lock, so threads are enough. Chunks are taken in order and nothing new is
taken after a failure; every lower chunk was taken before, and is finished. So the same damage gives the same name.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from threading import Lock
from typing import Final

from measurements.pack.pack_manifest import Manifest

THREADS_MAX: Final = 64

Progress = Callable[[int, int], None]
"""Told how many plaintext bytes are done, of how many."""


def silent(_done: int, _total: int) -> None:
    """No progress to show."""


def default_threads() -> int:
    """As many as this process may run on, up to 8: beyond that, memory and disk decide."""
    return min(8, len(os.sched_getaffinity(0)))


def over_chunks(
    manifest: Manifest, threads: int, worker: Callable[[], Callable[[int], None]], progress: Progress
) -> None:
    """Calls, on each thread, what `worker` makes there for chunk after chunk. Raises what the lowest failing raised."""
    if not 1 <= threads <= THREADS_MAX:
        raise ValueError(f"threads are 1 to {THREADS_MAX}, got {threads}")
    turns = _Turns(manifest, progress)
    threads = min(threads, manifest.chunks)
    with ThreadPoolExecutor(threads, thread_name_prefix="pack") as pool:
        try:
            for running in [pool.submit(turns.run, worker) for _ in range(threads)]:
                running.result()
        finally:
            turns.stop()  # an interrupt while waiting: the others leave at their next chunk
    if turns.failures:
        raise turns.failures[min(turns.failures)]


class _Turns:
    """Which chunk is next, shared by the threads."""

    __slots__ = ("_done", "_lock", "_manifest", "_next", "_progress", "_stopped", "failures")

    def __init__(self, manifest: Manifest, progress: Progress) -> None:
        self._manifest = manifest
        self._progress = progress
        self._lock = Lock()
        self._next = 0
        self._done = 0
        self._stopped = False
        self.failures: dict[int, Exception] = {}

    def run(self, worker: Callable[[], Callable[[int], None]]) -> None:
        try:
            work = worker()
            while (index := self._take()) is not None:
                try:
                    work(index)
                except Exception as failure:  # noqa: BLE001  # kept, and raised by the thread that waits
                    self._failed(index, failure)
                else:
                    self._finished(index)
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        self._stopped = True

    def _take(self) -> int | None:
        with self._lock:
            if self._stopped or self._next >= self._manifest.chunks:
                return None
            self._next += 1
            return self._next - 1

    def _failed(self, index: int, failure: Exception) -> None:
        with self._lock:
            self.failures[index] = failure
            self._stopped = True

    def _finished(self, index: int) -> None:
        with self._lock:
            self._done += self._manifest.chunk_size(index)
            self._progress(self._done, self._manifest.plain_bytes)
