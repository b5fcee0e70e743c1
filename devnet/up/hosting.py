"""The host beside one cell of the devnet: seals what waits, feeds the cell what was ordered, reports what it answers.

It speaks with the gateway over HTTP and with the cell over its window, and neither trusts it. It remembers how
far the gateway has the cell's answers; after a restart a new cell joins there, and what it answers twice is the same.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Final

from anchorhold.host.answer_reports import AnswerCollector, deliver
from anchorhold.host.gateway_client import GatewayClient
from anchorhold.host.slice_feed import feed
from appliance.serving.window import Judged
from devnet.agent import Agent, Remote
from devnet.subnet import GATEWAY
from foundation import private_files
from foundation.refusal import Refused
from vsock_bridge.host import Host
from vsock_bridge.ports import Port
from vsock_bridge.transport import Address

POLL_S: Final = 0.25


class CellHost:
    """One cell's host. With `seals`, it also asks the gateway to seal: of several, one is enough."""

    def __init__(self, address: Address, agent: Agent, done: Path, *, seals: bool, say: Callable[[str], None]) -> None:
        self._address, self._agent, self._seals, self._say = address, agent, seals, say
        self._gateway: Final = GatewayClient(Remote(agent, GATEWAY))
        self._file: Final = done
        self._done = int(done.read_text()) if done.exists() else 0

    async def run(self) -> None:
        """Until it is cancelled, or the cell or the gateway is lost."""
        async with Host(self._address, Port.STREAM) as host:
            while True:
                status = await asyncio.to_thread(self._gateway.status)
                if self._seals and status["queued"]:
                    await asyncio.to_thread(self._seal)
                elif status["head_height"] > self._done:
                    await self._answer(host, max(self._done + 1, status["oldest_height"]))
                else:
                    await asyncio.sleep(POLL_S)

    def _seal(self) -> None:
        try:
            self._gateway.end_seal(self._gateway.begin_seal(self._agent.principal))
        except Refused as refused:
            self._say(f"the gateway seals nothing: {refused}")

    async def _answer(self, host: Host, first: int) -> None:
        """Everything from a height on: proven to the cell, answered by it, reported to the gateway."""
        found = await asyncio.to_thread(self._gateway.proof_and_bodies, first)
        if found is None:
            return
        proof, bodies = found
        collector, through = AnswerCollector(), first - 1
        async for said in feed(host, proof, {first + number: body for number, body in enumerate(bodies)}):
            if isinstance(said, Judged):
                through = said.through
            if (told := collector.add(said)) is not None:
                for delivered in await asyncio.to_thread(deliver, [told], self._report):
                    if isinstance(delivered.outcome, Refused):
                        self._say(str(delivered))
        self._done = through
        private_files.replace(self._file, str(through).encode())

    def _report(self, report: object) -> str:
        return self._gateway.report_answer(self._agent.principal, report)  # type: ignore[arg-type]
