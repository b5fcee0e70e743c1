"""The one device: ordered requests run here, one at a time, in the order they were released.

`Device.enqueue` takes a block's requests and returns a `Backlog`, into which their answers are put as they come
and from which whoever asked reads them. The device never waits for a reader: a host that takes nothing costs
itself its answers, oldest first, when all backlogs together exceed their bound, and costs nobody else anything
(docs/spec/window.md N7 to N12).
"""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Final

import structlog

from appliance.ordering.sequencer import OrderedRequest
from appliance.serving.answer_pipeline import Answering
from appliance.serving.window import Say, encode_say

BACKLOG_BYTES_MAX: Final = 64 << 20
QUEUE_BYTES_MAX: Final = 16 << 20
MESSAGE_COST_BYTES: Final = 128  # what keeping a message costs beside its bytes, so that small ones cost too
REQUEST_COST_BYTES: Final = 1024  # the same for a request that waits: many empty ones are bounded as well

_log = structlog.get_logger()


class Backlog:
    """What was said about one block and not yet read."""

    def __init__(self, height: int, requests: int, backlogs: Backlogs) -> None:
        self.height: Final = height
        self.unread_bytes = 0  # with what keeping them costs
        self.dropped = False
        self._unfinished = requests
        self._backlogs: Final = backlogs
        self._said: Final[deque[bytes]] = deque()
        self._news: Final = asyncio.Event()

    @property
    def spent(self) -> bool:
        """Nothing more will come out of this."""
        return self.dropped or (self._unfinished == 0 and not self._said)

    def put(self, raw: bytes) -> None:
        if not self.dropped:
            self._said.append(raw)
            self._count(_message_cost(raw))
            self._news.set()

    def request_done(self) -> None:
        self._unfinished -= 1
        self._settle()
        self._news.set()

    def drop(self) -> None:
        """Forget what is unread: nobody takes it, or there is too much of it."""
        self.dropped = True
        self._count(-self.unread_bytes)
        self._said.clear()
        self._settle()
        self._news.set()

    async def next(self) -> bytes | None:
        """The next message, or None when there will be no more."""
        while not self._said and not self.spent:
            self._news.clear()
            await self._news.wait()
        if not self._said:
            return None
        raw = self._said.popleft()
        self._count(-_message_cost(raw))
        self._settle()
        return raw

    def _settle(self) -> None:
        if self.spent:
            self._backlogs.forget(self)

    def _count(self, bytes_more: int) -> None:
        self.unread_bytes += bytes_more
        self._backlogs.unread_bytes += bytes_more


class Backlogs:
    """All of them, in the order of their blocks, and the bound they share."""

    def __init__(self, bytes_max: int) -> None:
        self._bytes_max: Final = bytes_max
        self._open: Final[dict[Backlog, None]] = {}  # oldest first
        self.unread_bytes = 0

    def __len__(self) -> int:
        """How many have something more to come."""
        return len(self._open)

    def begin(self, height: int, requests: int) -> Backlog:
        backlog = Backlog(height, requests, self)
        self._open[backlog] = None
        return backlog

    def forget(self, backlog: Backlog) -> None:
        self._open.pop(backlog, None)

    def keep_bounded(self) -> None:
        while self.unread_bytes > self._bytes_max:
            oldest = next(each for each in self._open if each.unread_bytes)
            _log.warning("answers dropped unread", height=oldest.height)
            oldest.drop()


@dataclass(frozen=True, slots=True)
class _Queued:
    request: OrderedRequest
    backlog: Backlog
    closes: bool  # it is the last of its block: the checkpoint comes after it


class Device:
    """Owns the engine's thread. Everything but making answers happens on the event loop."""

    def __init__(
        self,
        answering: Answering,
        *,
        backlog_bytes_max: int = BACKLOG_BYTES_MAX,
        on_answered: Callable[[int], None] = lambda _: None,
    ) -> None:
        """`on_answered` is told the height of each block whose last receipt is there."""
        self._answering: Final = answering
        self._on_answered: Final = on_answered
        self._thread: Final = ThreadPoolExecutor(1, thread_name_prefix="device")
        self._stopping: Final = threading.Event()
        self._queue: Final[asyncio.Queue[_Queued]] = asyncio.Queue()
        self._queued_bytes = 0
        self._room: Final = asyncio.Event()
        self._backlogs: Final = Backlogs(backlog_bytes_max)
        self.answered = 0

    @property
    def queued(self) -> int:
        return self._queue.qsize()

    async def has_room(self) -> None:
        """Wait until another block may be queued: the queue is bounded, whoever supplies."""
        while self._queued_bytes > QUEUE_BYTES_MAX:
            self._room.clear()
            await self._room.wait()

    def enqueue(self, height: int, requests: Sequence[OrderedRequest]) -> Backlog:
        """Queue a block's requests behind all that were released before them."""
        backlog = self._backlogs.begin(height, len(requests))
        for request in requests:
            self._queued_bytes += _request_cost(request)
            self._queue.put_nowait(_Queued(request, backlog, closes=request is requests[-1]))
        return backlog

    async def run(self) -> None:
        """Until cancelled. An engine that fails ends this, and with it the cell: no request may be passed over.

        Cancelled in the middle of an answer, the thread ends with the piece it is at.
        """
        loop = asyncio.get_running_loop()
        try:
            while True:
                queued = await self._queue.get()
                await loop.run_in_executor(self._thread, self._answer, loop, queued)
                self._queued_bytes -= _request_cost(queued.request)
                self._room.set()
                self.answered += 1
                queued.backlog.request_done()
                if queued.closes:
                    self._on_answered(queued.request.height)
        finally:
            self._stopping.set()
            self._thread.shutdown(wait=False, cancel_futures=True)

    def _answer(self, loop: asyncio.AbstractEventLoop, queued: _Queued) -> None:
        """On the device's thread: what it says is handed to the loop, in order, and its end after that."""
        for say in self._said(queued):
            if self._stopping.is_set():
                return
            loop.call_soon_threadsafe(self._put, queued.backlog, encode_say(say))

    def _said(self, queued: _Queued) -> Iterator[Say]:
        yield from self._answering.answer(queued.request)
        if queued.closes:
            yield self._answering.close(queued.request.height)

    def _put(self, backlog: Backlog, raw: bytes) -> None:
        backlog.put(raw)
        self._backlogs.keep_bounded()


def _message_cost(raw: bytes) -> int:
    return len(raw) + MESSAGE_COST_BYTES


def _request_cost(request: OrderedRequest) -> int:
    return len(request.payload.reveal()) + REQUEST_COST_BYTES
