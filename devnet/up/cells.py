"""One cell of the devnet: `python -m devnet.cell` in a process of its own, with its log in a file."""

from __future__ import annotations

import asyncio
import json
import secrets
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from anchorhold.host.broker_relay import BrokerAddress, holds_key, relay
from anchorhold.host.slice_feed import evidence
from attestation.evidence.evidence_bundle import EvidenceBundle
from attestation.evidence.keyset import KeyUse
from devnet.demo.key_owner import KeyOwner
from devnet.up.plan import UpRefused
from vsock_bridge.host import Host
from vsock_bridge.ports import Port
from vsock_bridge.transport import Address

SOCKET_CHARACTERS_MAX: Final = 107  # what a Unix socket's address can hold


@dataclass(frozen=True, slots=True)
class Cell:
    number: int
    address: Address
    log: Path
    ended: asyncio.Task[int]  # its exit status, once it has one
    model_open: asyncio.Event


@asynccontextmanager
async def started(number: int, folder: Path, config: Path, owner: KeyOwner) -> AsyncIterator[Cell]:
    """A cell that serves its window and has no key yet. It ends with the block, and with this process."""
    socket, log = folder / f"cell{number}.sock", folder / f"cell{number}.log"
    if len(str(socket)) > SOCKET_CHARACTERS_MAX:
        raise UpRefused("folder", expected=f"a path of at most {SOCKET_CHARACTERS_MAX - 12} characters", got=folder)
    socket.unlink(missing_ok=True)
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "devnet.cell",
        "--config",
        str(config),
        "--listen",
        f"unix:{socket}",
        "--with-parent",
        *owner.cell_arguments(),
        stdin=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    news = {name: asyncio.Event() for name in ("serving", "model open")}
    ended = asyncio.create_task(_follow(process, log, news))
    try:
        await _event_or_end(news["serving"], ended, log)
        yield Cell(number, Address.parse(f"unix:{socket}"), log, ended, news["model open"])
    finally:
        if process.returncode is None:
            process.terminate()
        await ended


async def unlock(cell: Cell, broker: str, authority: Path) -> None:
    """The cell proves itself to the broker and opens its model with the key it gets."""
    async with Host(cell.address, Port.RELEASE) as host:
        standing = await relay(host, BrokerAddress(broker, str(authority)))
    if not holds_key(standing):
        got = standing.failure or standing.state.value
        raise UpRefused("release", expected=f"a key for cell {cell.number}", got=got)
    await _event_or_end(cell.model_open, cell.ended, cell.log)


async def receipt_key(cell: Cell) -> bytes:
    """As the cell's own evidence binds it."""
    async with Host(cell.address, Port.OBSERVE) as host:
        raw = await evidence(host, secrets.token_bytes(32))
    key = EvidenceBundle.parse(raw).keyset.key(KeyUse.RECEIPT)
    if key is None:
        raise UpRefused("evidence", expected="a receipt key", got="none")
    return key.raw


async def _event_or_end(event: asyncio.Event, ended: asyncio.Task[int], log: Path) -> None:
    waiting = asyncio.create_task(event.wait())
    await asyncio.wait({waiting, ended}, return_when=asyncio.FIRST_COMPLETED)
    waiting.cancel()
    if ended.done():
        raise UpRefused("cell", expected="a cell that serves", got=f"exit status {ended.result()}; see {log}")


async def _follow(process: asyncio.subprocess.Process, log: Path, news: dict[str, asyncio.Event]) -> int:
    """Keeps the cell's log and notices the events somebody waits for; its exit status at the end."""
    if process.stderr is None:
        raise UpRefused("cell", expected="a log", got="none")
    with log.open("ab") as kept:
        async for line in process.stderr:
            kept.write(line)
            kept.flush()
            if (event := _event(line)) in news:
                news[event].set()
    return await process.wait()


def _event(line: bytes) -> str:
    """The event of a line of the cell's log; none of one that a library wrote past it."""
    try:
        found = json.loads(line)
    except ValueError:
        return ""
    return str(found.get("event")) if isinstance(found, dict) else ""
