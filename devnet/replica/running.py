"""A network that runs by itself: rounds on the clock, one after the other, each saved before anyone sees it.

    running = Running(folder)
    async with running.rounds():
        call = await running.submit(canister, method, argument, sender)
        await running.answered(call, seconds=10)

One thread owns the network; whoever speaks HTTP hands it functions (`do`) and waits. A round runs as soon as a call
comes from outside; what canisters cause among themselves waits `ROUND_S`, as a subnet's rounds take their time.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from pathlib import Path
from secrets import token_bytes
from typing import Final, TypeVar

from devnet.replica.certification import Certifier
from devnet.replica.kept import Kept
from devnet.replica.messages import ANONYMOUS, Call, Rejection
from devnet.replica.network import Network

ROUND_S: Final = 0.1
HEARTBEAT_S: Final = 1.0
REMEMBERED_NS: Final = 10 * 60 * 10**9  # how long after its expiry the status of an answered call is kept
SEED_BYTES: Final = 32
RANDOM_BYTES: Final = 32
T = TypeVar("T")


class Time:
    """The clock of a network: the machine's, but never back, over restarts too. It stands still within a round."""

    def __init__(self, last_ns: int) -> None:
        self._now_ns = last_ns

    def go_on(self) -> int:
        self._now_ns = max(self._now_ns + 1, time.time_ns())
        return self._now_ns

    def __call__(self) -> int:
        return self._now_ns


class Running:
    """A network with its state in a folder, certified under a root key that stays with the folder."""

    def __init__(self, folder: Path) -> None:
        self._kept: Final = Kept.open(folder)
        self.certifier: Final = Certifier(bytes.fromhex(self._kept.text("seed", token_bytes(SEED_BYTES).hex())))
        self.time: Final = Time(self._kept.time_ns)
        self.network: Final = Network(
            clock=self.time,
            randomness=lambda: token_bytes(RANDOM_BYTES),
            certify=self._certified,
            subnet_id=self.certifier.subnet_id,
            root_key=self.certifier.root_key,
        )
        self._kept.restore(self.network)
        self._thread: Final = ThreadPoolExecutor(1, thread_name_prefix="replica")
        self._wanted: Final = asyncio.Event()
        self._ended = asyncio.Event()

    def _certified(self, canister: bytes, _data: bytes) -> bytes:
        path = (b"canister", canister, b"certified_data")
        return self.certifier.certificate(self.network, [path], self.time.go_on())

    # ---- for whoever speaks with it

    async def do(self, what: Callable[[], T]) -> T:
        """Runs a function where the network may be touched: between two rounds, on saved state."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, what)

    async def change(self, what: Callable[[], T]) -> T:
        """As `do`, and saves what it changed."""
        return await self.do(lambda: self._saving(what))

    def _saving(self, what: Callable[[], T]) -> T:
        now_ns = self.time.go_on()
        result = what()
        self._kept.save(self.network, now_ns)
        return result

    async def submit(
        self,
        canister: bytes,
        method: str,
        argument: bytes,
        sender: bytes = ANONYMOUS,
        *,
        request_id: bytes = b"",
        expiry_ns: int = 0,
    ) -> Call | Rejection:
        """Takes a call from outside, unless whom it is for does not; the same request twice is one call."""

        def take() -> Call | Rejection:
            self.time.go_on()
            if (known := self.network.requests.get(request_id)) is not None:
                return self.network.ingress[known]
            rejection = self.network.inspect(canister, method, argument, sender)
            if rejection is not None:
                return rejection
            return self.network.submit(canister, method, argument, sender, request_id=request_id, expiry_ns=expiry_ns)

        taken = await self.do(take)
        self._wanted.set()
        return taken

    async def answered(self, call: Call, seconds: float) -> bool:
        """Whether the call has its response, by the end of that time at the latest."""
        try:
            async with asyncio.timeout(seconds):
                while True:
                    ended = self._ended
                    if await self.do(lambda: call.outcome is not None):
                        return True
                    await ended.wait()
        except TimeoutError:
            return False

    # ---- rounds

    @asynccontextmanager
    async def rounds(self) -> AsyncIterator[asyncio.Task[None]]:
        """Rounds run inside. The task ends only by failing: whoever waits for something else watches it too."""
        task = asyncio.create_task(self._run())
        try:
            yield task
        finally:
            task.cancel()
            await asyncio.wait([task])
            await self.do(self._kept.close)
            self._thread.shutdown()

    async def _run(self) -> None:
        while True:
            self._wanted.clear()
            rest_s = await self.do(self._round)
            ended, self._ended = self._ended, asyncio.Event()
            ended.set()
            try:
                async with asyncio.timeout(rest_s):
                    await self._wanted.wait()
            except TimeoutError:
                continue

    def _round(self) -> float | None:
        """One round, saved if anything ran; how long to rest after it, None for until somebody calls."""
        now_ns = self.time.go_on()
        known = len(self.network.ingress)
        ran = self.network.round()
        self.network.forget(now_ns - REMEMBERED_NS)
        if ran or len(self.network.ingress) != known:
            self._kept.save(self.network, now_ns)
        if self.network.waiting():
            return ROUND_S
        rests = [HEARTBEAT_S] if self.network.has_heartbeat() else []
        if (wakes_ns := self.network.wakes_ns()) is not None:
            rests.append(max(0.0, (wakes_ns - time.time_ns()) / 10**9))
        return min(rests, default=None)
