"""Starts the devnet's processes in order, and prints its addresses when everything answers."""

from __future__ import annotations

import asyncio
import hashlib
import json
import signal
import sys
import time
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from anchorhold.input_files import reason_of
from anchorhold.owner.broker_process import write_certificate
from attestation.broker.server import BrokerServer, tls_context
from attestation.consensus.principal import to_text
from devnet import machine
from devnet.agent import Agent
from devnet.demo.key_owner import MEASUREMENT, KeyOwner
from devnet.demo.run import CONFIG, PRICE
from devnet.governance import CANISTER as GOVERNANCE
from devnet.replica.running import Running
from devnet.replica.serving import LOOPBACK, serving
from devnet.subnet import GATEWAY
from devnet.up import canisters, cells
from devnet.up.hosting import CellHost
from devnet.up.owner import kept_owner
from devnet.up.plan import Plan, UpRefused
from foundation import private_files
from foundation.refusal import Refused
from vsock_bridge.errors import BridgeError


@dataclass(frozen=True, slots=True)
class _Broker:
    url: str
    authority: Path


def run(plan: Plan) -> int:
    """0 after a signal; raises `Refused` or `OSError` if it cannot start or something of it ends."""
    with plan.held():
        return asyncio.run(_run(plan))


async def _run(plan: Plan) -> int:
    begun, loop, told_to_stop = time.monotonic(), asyncio.get_running_loop(), asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, told_to_stop.set)

    def say(line: str) -> None:
        print(f"devnet: {time.monotonic() - begun:6.1f} s  {line}", file=sys.stderr, flush=True)

    async with AsyncExitStack() as stack:
        say(f"folder {plan.folder}")
        owner = stack.enter_context(kept_owner(plan))
        say(f"model {owner.identity.name}, sealed; engine {plan.engine.value}")
        running = await asyncio.to_thread(Running, plan.folder / "replica")
        rounds = await stack.enter_async_context(running.rounds())
        try:
            url = await stack.enter_async_context(serving(running, plan.ic_port))
        except OSError as error:
            got = f"{plan.ic_port}: {reason_of(error)}"
            raise UpRefused("ic-port", expected="a port that is free; --ic-port 0 takes one", got=got) from None
        making = asyncio.create_task(asyncio.to_thread(_make_machine, plan.folder / "machine"))
        stack.push_async_callback(_cancel, [making])
        installing = asyncio.create_task(running.change(lambda: canisters.install(running)))
        stack.push_async_callback(_cancel, [installing])
        broker = await _serve_broker(plan.folder / "broker", owner, stack)
        say(f"broker {broker.url}")
        config = _configured(plan, owner, running)
        made = await asyncio.gather(
            *(
                stack.enter_async_context(cells.started(number + 1, plan.folder, config, owner))
                for number in range(plan.cells)
            )
        )
        await asyncio.gather(*(cells.unlock(cell, broker.url, broker.authority) for cell in made))
        say(f"{len(made)} cells hold the key and serve")
        await installing
        await making
        say(f"replica {url}, gateway {to_text(GATEWAY)}, governance {to_text(GOVERNANCE)}")
        agents = [Agent(url, running.certifier.raw_root_key, host_key(owner.seed, cell.number)) for cell in made]
        await canisters.let_report(running, [agent.principal for agent in agents])
        hosts = [
            asyncio.create_task(
                CellHost(
                    cell.process.address, agent, plan.folder / f"cell{cell.number}.done", seals=cell is made[0], say=say
                ).run()
            )
            for cell, agent in zip(made, agents, strict=True)
        ]
        stack.push_async_callback(_cancel, hosts)
        say("everything answers")
        print(
            json.dumps(
                {
                    "ic": url,
                    "root_key": running.certifier.root_key.hex(),
                    "gateway": to_text(GATEWAY),
                    "governance": to_text(GOVERNANCE),
                    "broker": broker.url,
                    "model": owner.identity.name,
                    "cells": [
                        {
                            "address": str(cell.process.address),
                            "reporter": to_text(agent.principal),
                            "log": str(cell.process.log),
                            "receipt_key": (await cells.receipt_key(cell)).hex(),
                        }
                        for cell, agent in zip(made, agents, strict=True)
                    ],
                    "folder": str(plan.folder),
                }
            ),
            flush=True,
        )
        await _until(told_to_stop, [rounds, *hosts, *(cell.process.ended for cell in made)])
        say("stopping")
    return 0


async def _until(told_to_stop: asyncio.Event, running: Sequence[asyncio.Task[object]]) -> None:
    """Until a signal; whatever ends before then was not to end, and its reason is raised."""
    stop = asyncio.create_task(told_to_stop.wait())
    done, _ = await asyncio.wait({stop, *running}, return_when=asyncio.FIRST_COMPLETED)
    stop.cancel()
    for task in done - {stop}:
        reason = task.exception()
        if isinstance(reason, Refused | BridgeError | OSError):
            raise UpRefused("ended", expected="to run until a signal", got=f"{type(reason).__name__}: {reason}")
        raise UpRefused("ended", expected="to run until a signal", got=f"the end of a cell: {task.result()}")


async def _cancel(tasks: Sequence[asyncio.Task[None]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)


def _make_machine(folder: Path) -> None:
    """For cells of the user's own: the chip, what a broker is told of it, and the measurement that it reports."""
    machine.make(folder, MEASUREMENT)
    (folder / "measurement").write_text(f"{MEASUREMENT.hex()}\n")


async def _serve_broker(folder: Path, owner: KeyOwner, stack: AsyncExitStack) -> _Broker:
    write_certificate(folder)
    context = tls_context(folder / "tls.pem", folder / "tls.key")
    server = await stack.enter_async_context(BrokerServer(owner.broker.broker, context))
    return _Broker(f"https://{LOOPBACK}:{await server.start(LOOPBACK, 0)}", folder / "tls.pem")


def _configured(plan: Plan, owner: KeyOwner, running: Running) -> Path:
    """The cells' measured configuration: written once, approved once, the same at every start."""
    path = plan.folder / "cell.toml"
    if not path.exists():
        text = CONFIG.format(
            gateway=to_text(GATEWAY),
            root_key=running.certifier.raw_root_key.hex(),
            price=PRICE,
            engine=plan.engine.lines(plan.folder / "model"),
        )
        private_files.replace(path, (text + owner.config_section()).encode())
    if not owner.broker.has_approved():
        owner.approve(path.read_bytes())
    return path


def host_key(machine_seed: bytes, number: int) -> Ed25519PrivateKey:
    """The same host has the same key at every start: the gateway knows its reporters by them."""
    seed = hashlib.sha256(b"devnet host" + number.to_bytes(2, "big") + machine_seed).digest()
    return Ed25519PrivateKey.from_private_bytes(seed)
