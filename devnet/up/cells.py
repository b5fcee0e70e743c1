"""One cell of the devnet: its process, its key, its published identity."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from anchorhold.host.broker_relay import BrokerAddress, holds_key, relay
from anchorhold.host.slice_feed import evidence
from attestation.evidence.evidence_bundle import EvidenceBundle
from attestation.evidence.keyset import KeyUse
from devnet import cell_process
from devnet.cell_process import CellProcess
from devnet.demo.key_owner import KeyOwner
from devnet.up.plan import UpRefused
from vsock_bridge.host import Host
from vsock_bridge.ports import Port

SOCKET_CHARACTERS_MAX: Final = 107  # what a Unix socket's address can hold


@dataclass(frozen=True, slots=True)
class Cell:
    number: int
    process: CellProcess


@asynccontextmanager
async def started(number: int, folder: Path, config: Path, owner: KeyOwner) -> AsyncIterator[Cell]:
    """A cell that serves its window and has no key yet. It ends with the block, and with this process."""
    socket, log = folder / f"cell{number}.sock", folder / f"cell{number}.log"
    if len(str(socket)) > SOCKET_CHARACTERS_MAX:
        raise UpRefused("folder", expected=f"a path of at most {SOCKET_CHARACTERS_MAX - 12} characters", got=folder)
    socket.unlink(missing_ok=True)
    async with cell_process.started(config, socket, log, owner.cell_arguments()) as process:
        await process.serving()
        yield Cell(number, process)


async def unlock(cell: Cell, broker: str, authority: Path) -> None:
    """The cell proves itself to the broker and opens its model with the key it gets."""
    async with Host(cell.process.address, Port.RELEASE) as host:
        standing = await relay(host, BrokerAddress(broker, str(authority)))
    if not holds_key(standing):
        got = standing.failure or standing.state.value
        raise UpRefused("release", expected=f"a key for cell {cell.number}", got=got)
    await cell.process.model_open()


async def receipt_key(cell: Cell) -> bytes:
    """As the cell's own evidence binds it."""
    async with Host(cell.process.address, Port.OBSERVE) as host:
        raw = await evidence(host, secrets.token_bytes(32))
    key = EvidenceBundle.parse(raw).keyset.key(KeyUse.RECEIPT)
    if key is None:
        raise UpRefused("evidence", expected="a receipt key", got="none")
    return key.raw
