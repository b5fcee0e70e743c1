"""Attacks on what is left lying about: files, logs, core dumps, what the kernel shows of a process."""

from __future__ import annotations

import asyncio
import os
import resource
import signal
import stat
import subprocess
from pathlib import Path
from typing import Any

import structlog

from anchorhold.host.slice_feed import feed
from devnet.chain import Chain
from devnet.demo.key_owner import key_owner
from devnet.misbehaviour import Misbehaviour
from devnet.model import TinyModel
from devnet.subnet import GATEWAY
from tests.attack.cells import NOW, SUBNET, PlainCell, plain_cell, prompt, released_cell
from tests.attack.outcome import NotTried, Outcome, Unexpected, broken, held
from tests.attack.registry import attack
from tests.attack.room import Room
from tests.attack.weakening import Patch, without
from tests.canary import Canary, found, found_of_process
from tests.cell_process import environment
from tests.memory import MAY_LOOK, holds
from vsock_bridge.host import Host
from vsock_bridge.ports import Port

CANARY = Canary("k4n4ry7w0rds5in9ing")


def logs_that_quote(patch: Patch) -> None:
    """A log as other programs have it: a line about what came in, with the values as they are."""
    decode_ask = patch.now("appliance.serving.services:decode_ask")

    def decoded(item: bytes) -> Any:
        structlog.get_logger().info("asked", item=item)
        return decode_ask(item)

    patch.put("foundation.logs:printable", lambda value, depth=0: str(value))
    patch.put("appliance.serving.services:decode_ask", decoded)


@attack(
    "prompt-in-the-log",
    tries="prompts that are answered and refused, and a search of all that the cell writes",
    defence="values without a rendering, and logs that cannot quote (S1 to S8)",
    without=logs_that_quote,
)
def prompt_in_the_log(room: Room) -> Outcome:
    of = Chain(SUBNET, GATEWAY, seed=b"canary")
    of.seal([prompt(CANARY.text), CANARY.raw, b"\xff" + CANARY.raw], NOW + 1)

    async def work(cell: PlainCell) -> None:
        async with Host(cell.address, Port.STREAM) as host:
            for body in (of.body(1, misbehaviour=Misbehaviour.REQUEST_CHANGED), CANARY.raw, of.body(1)):
                try:
                    async for _ in feed(host, of.proof(1, 1, NOW + 9), {1: body}):
                        pass
                except Exception:  # noqa: BLE001, S110  # what it refuses, it refuses; what it writes is the question
                    pass

    with plain_cell(room) as cell:
        asyncio.run(work(cell))
        shown = found_of_process([CANARY], cell.process.pid)
        cell.stop()
        shown += found([CANARY], cell.output.encode())
    return broken("the prompt is in the log") if shown else held(f"{len(cell.lines)} lines, none with it")


@attack(
    "core-dump",
    tries="a cell is made to abort where core dumps have no bound",
    defence="a cell bounds its core dumps to nothing and is no process to dump (S9)",
    without=without("appliance.main:seal_process"),
)
def core_dump(room: Room) -> Outcome:
    pattern = Path("/proc/sys/kernel/core_pattern").read_text().strip()
    if pattern.startswith(("/", "|")):
        raise NotTried(f"cores of this machine do not go to the working folder (pattern {pattern[:40]})")
    before = resource.getrlimit(resource.RLIMIT_CORE)
    resource.setrlimit(resource.RLIMIT_CORE, (before[1], before[1]))  # what a process is started with
    try:
        with plain_cell(room) as cell:
            status = cell.stop(signal.SIGABRT)
    finally:
        resource.setrlimit(resource.RLIMIT_CORE, before)
    cores = [path.stat().st_size for path in room.folder.glob("core*")]
    if status != -signal.SIGABRT:
        raise Unexpected(f"expected an abort, got status {status}")
    return broken(f"a core dump of {cores[0] >> 20} MiB") if cores else held("no core dump")


PUBLIC = {"tls.pem", "references.toml"}  # a certificate, and the machines of a fleet


@attack(
    "broker-in-an-open-folder",
    tries="`broker init` in a folder that everybody may look into, where new files are everybody's",
    defence="files with secrets are 0600, whatever the folder and the umask (S14)",
    without=without("attestation.broker.store:_keep_private"),
)
def broker_in_an_open_folder(room: Room) -> Outcome:
    folder = room.folder / "open"
    folder.mkdir(mode=0o755)
    before = os.umask(0)
    try:
        subprocess.run(
            [*room.python("anchorhold.command"), "broker", "init", str(folder)],
            check=True,
            capture_output=True,
            env=environment(),
        )
    finally:
        os.umask(before)
    made = {path.name: stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()}
    others = sorted(name for name, mode in made.items() if mode & 0o077 and name not in PUBLIC)
    return broken(f"open to others: {', '.join(others)}") if others else held(f"{len(made)} files, none open to others")


def kept_key(patch: Patch) -> None:
    """A secret that nobody overwrites."""
    patch.put("foundation.secrecy:_Own.__del__", lambda self: None)
    patch.put("foundation.secrecy:Secret.wipe", lambda self: None)


@attack(
    "model-key-in-memory",
    tries="a search of all of a serving cell's memory, for the key that opened its model",
    defence="the model's key is handed out once, and overwritten when the pack is open (S15)",
    without=kept_key,
)
def model_key_in_memory(room: Room) -> Outcome:
    if not MAY_LOOK:
        raise NotTried("only root may read a sealed process's memory")
    with key_owner(room.folder, TinyModel().write) as owner, released_cell(room, owner) as cell:
        in_use, key = holds(cell.process.pid, [owner.ring.keys[0].key.secret.reveal(), owner.key.reveal()])
    if not in_use:
        raise Unexpected("not even the service key in use was found")
    return broken(f"the key, {key} times") if key else held(f"no copy of it; of the service key in use {in_use}")
