"""The bridge into a guest and the bridge on this machine alone, side by side: what virtio-vsock adds.

The guest's processor is emulated, so these figures bound nothing on hardware: they show that the transport works
at sizes and rates that matter, and whether a change made it slower. Both ends of `here` run on this machine; the
cell's end of `guest` runs emulated. Rounds of both alternate.
"""

from __future__ import annotations

import asyncio
import contextlib
import multiprocessing
import statistics
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from image_build.boot.bare_machine import BareMachine
from image_build.boot.guest.window import Echo
from image_build.boot.vm_tools import why_not
from vsock_bridge.host import Host
from vsock_bridge.ports import Port
from vsock_bridge.server import CellServer
from vsock_bridge.transport import Address

BOOTS = 5
ROUNDS = 5
ROUND_TRIPS = {100: 300, 1024: 300, 65536: 60}  # bytes -> how many a round
BULK_BYTES = 1 << 20
BULK_COUNT = 12
PIECES = 160  # of 64 KiB, one way


async def _serve(folder: Path, ready: Any) -> None:
    async with CellServer({Port.STREAM: Echo()}) as server:
        await server.start(Address.parse(f"unix:{folder}/here"))
        ready.set()
        await asyncio.Event().wait()


def _here(folder: str, ready: Any) -> None:
    asyncio.run(_serve(Path(folder), ready))


Measure = Callable[[Host], Awaitable[float]]


def _round_trip(size: int, count: int) -> Measure:
    async def measure(host: Host) -> float:
        item = bytes(size)
        began = time.perf_counter()
        for _ in range(count):
            await host.ask(item)
        return (time.perf_counter() - began) / count * 1e6

    return measure


async def _echoed(host: Host) -> float:
    """MB/s of items that go in and come back, each read as it comes: a host that only submits stops the cell."""
    item = bytes(BULK_BYTES)
    began = time.perf_counter()
    await asyncio.gather(*(host.ask(item) for _ in range(BULK_COUNT)))
    return BULK_BYTES * BULK_COUNT / (time.perf_counter() - began) / 1e6


async def _told(host: Host) -> float:
    """MB/s of one long answer."""
    began = time.perf_counter()
    heard = len(await host.ask(b"pieces %d" % PIECES))
    return heard / (time.perf_counter() - began) / 1e6


async def _alternate(measure: Measure, *addresses: Address) -> list[float]:
    hosts = [Host(address, Port.STREAM) for address in addresses]
    figures: list[list[float]] = [[] for _ in hosts]
    async with contextlib.AsyncExitStack() as stack:
        for host in hosts:
            await stack.enter_async_context(host)
            await measure(host)
        for _ in range(ROUNDS):
            for host, found in zip(hosts, figures, strict=True):
                found.append(await measure(host))
    return [statistics.median(found) for found in figures]


def _boot_times() -> list[float]:
    """Seconds from starting the processes to the answer to a first item."""
    times = []
    for _ in range(BOOTS):
        with tempfile.TemporaryDirectory(prefix="vm-") as folder:
            began = time.perf_counter()
            with BareMachine(Path(folder), program=["/opt/cell/window.py"]) as machine:
                asyncio.run(_ask_once(machine.address))
                times.append(time.perf_counter() - began)
    return sorted(times)


async def _ask_once(address: Address) -> None:
    async with Host(address, Port.STREAM) as host:
        await host.ask(b"first")


def main() -> None:
    if (reason := why_not()) is not None:
        print(f"not measured: {reason}")
        return
    boots = _boot_times()
    middle = statistics.median(boots)
    print(f"boot to first answer   median {middle:.1f} s  ({boots[0]:.1f} to {boots[-1]:.1f}, {BOOTS} boots)")
    with tempfile.TemporaryDirectory(prefix="vm-") as folder:
        context = multiprocessing.get_context("spawn")
        ready = context.Event()
        server = context.Process(target=_here, args=(folder, ready), daemon=True)
        server.start()
        if not ready.wait(60):
            raise RuntimeError("the server beside the guest did not start")
        try:
            with BareMachine(Path(folder), program=["/opt/cell/window.py"]) as machine:
                _compare(machine.address, Address.parse(f"unix:{folder}/here"))
        finally:
            server.terminate()
            server.join()


def _compare(guest: Address, here: Address) -> None:
    print(f"{'':34}{'guest':>10}{'here':>10}{'guest/here':>12}")
    rows: list[tuple[str, Measure, str]] = [
        (f"round trip, {size} bytes", _round_trip(size, count), "us") for size, count in ROUND_TRIPS.items()
    ]
    rows += [("1 MiB items there and back", _echoed, "MB/s"), ("one answer of 10 MiB", _told, "MB/s")]
    for name, measure, unit in rows:
        inside, outside = asyncio.run(_alternate(measure, guest, here))
        print(f"{name:<28}{unit:>6}{inside:>10.0f}{outside:>10.0f}{inside / outside:>12.2f}")


if __name__ == "__main__":
    main()
