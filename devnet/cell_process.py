"""`python -m devnet.cell` in a process of its own, with its log in a file.

async with started(config, socket, log, arguments) as cell:
    await cell.serving()                    # its window answers; it has no key yet
    await cell.model_open()                 # it got its key
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from foundation.refusal import Refused
from vsock_bridge.transport import Address


class CellEnded(Refused):
    """The process ended before what was waited for."""

    stage = "devnet.cell"


@dataclass(frozen=True, slots=True)
class CellProcess:
    pid: int
    address: Address
    log: Path
    ended: asyncio.Task[int]  # its exit status, once it has one
    _logged: Mapping[str, asyncio.Event]

    async def serving(self) -> None:
        await self._event("serving")

    async def model_open(self) -> None:
        await self._event("model open")

    async def _event(self, name: str) -> None:
        """Until the cell's log has it. Raises `CellEnded`."""
        waiting = asyncio.create_task(self._logged[name].wait())
        await asyncio.wait({waiting, self.ended}, return_when=asyncio.FIRST_COMPLETED)
        waiting.cancel()
        if self.ended.done():
            got = f"exit status {self.ended.result()}; see {self.log}"
            raise CellEnded("devnet.cell", expected=f"a cell that comes to '{name}'", got=got)


@asynccontextmanager
async def started(config: Path, socket: Path, log: Path, arguments: Sequence[str]) -> AsyncIterator[CellProcess]:
    """A cell that ends with the block, and with this process. `arguments` say which machine it is."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "devnet.cell",
        "--config",
        str(config),
        "--listen",
        f"unix:{socket}",
        "--with-parent",
        *arguments,
        stdin=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    if process.stderr is None:
        raise CellEnded("devnet.cell", expected="a log", got="none")
    logged = {name: asyncio.Event() for name in ("serving", "model open")}
    ended = asyncio.create_task(_follow(process, process.stderr, log, logged))
    try:
        yield CellProcess(process.pid, Address.parse(f"unix:{socket}"), log, ended, logged)
    finally:
        if process.returncode is None:
            process.terminate()
        await ended


async def _follow(
    process: asyncio.subprocess.Process, lines: asyncio.StreamReader, log: Path, logged: Mapping[str, asyncio.Event]
) -> int:
    """Keeps the cell's log and notices the events somebody waits for; its exit status at the end."""
    with log.open("ab") as kept:
        async for line in lines:
            kept.write(line)
            kept.flush()
            if (event := _event(line)) in logged:
                logged[event].set()
    return await process.wait()


def _event(line: bytes) -> str:
    """The event of a line of the cell's log; none of one that a library wrote past it."""
    try:
        found = json.loads(line)
    except ValueError:
        return ""
    return str(found.get("event")) if isinstance(found, dict) else ""
