"""The bridge against a bare asyncio echo: the same payloads, the same Unix socket, the same run.

The bare echo is the least an asyncio program can do that knows its messages: streams, `readexactly` of a fixed
size on both sides, no header, no checksum, no flow control of its own, no resume.

Three shapes: `round trip` sends the next payload when the last has come back; `pipelined` keeps a window of them on
the way; `streamed` asks once and is answered in many frames, as tokens are. Server and client are two processes.
Rounds of both alternate, so a slow minute hits both; time on the processor is counted beside the time on the wall.
"""

from __future__ import annotations

import asyncio
import json
import multiprocessing
import statistics
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from vsock_bridge.host import Host
from vsock_bridge.ports import Port
from vsock_bridge.server import Answer, CellServer
from vsock_bridge.transport import Address

SIZES = {1024: 3000, 65536: 800}
ROUNDS = 7
WINDOW = 16


class _Echo:
    async def serve(self, item: bytes, answer: Answer) -> None:
        await answer.end(item)


class _Pour:
    """As many frames as the item asks for, of the size it asks for."""

    async def serve(self, item: bytes, answer: Answer) -> None:
        payload = bytes(int.from_bytes(item[:4], "big"))
        for _ in range(int.from_bytes(item[4:], "big")):
            await answer.send(payload)


async def _serve(folder: Path, ready: Any) -> None:
    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        size = int.from_bytes(await reader.readexactly(4), "big")
        try:
            while True:
                writer.write(await reader.readexactly(size))
                await writer.drain()
        except asyncio.IncompleteReadError:
            writer.close()

    async def pour(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                payload = bytes(int.from_bytes(await reader.readexactly(4), "big"))
                for _ in range(int.from_bytes(await reader.readexactly(4), "big")):
                    writer.write(payload)
                    await writer.drain()
        except asyncio.IncompleteReadError:
            writer.close()

    server = CellServer({Port.STREAM: _Echo(), Port.OBSERVE: _Pour()})
    await server.start(Address.parse(f"unix:{folder}/cell"))
    await asyncio.start_unix_server(echo, folder / "echo")
    await asyncio.start_unix_server(pour, folder / "pour")
    ready.set()
    await asyncio.Event().wait()


def _server_process(folder: str, ready: Any) -> None:
    asyncio.run(_serve(Path(folder), ready))


Work = Callable[[int], Awaitable[None]]  # so many exchanges, or so many frames of one answer


async def _bare_echo(folder: Path, size: int, window: int) -> Work:
    reader, writer = await asyncio.open_unix_connection(folder / "echo")
    writer.write(size.to_bytes(4, "big"))
    payload = bytes(size)

    async def exchange(count: int) -> None:
        for _ in range(window):
            writer.write(payload)
        for sent in range(window, count + window):
            await reader.readexactly(size)
            if sent < count:
                writer.write(payload)  # the window bounds what is on the way; draining here could deadlock

    return exchange


async def _bridge_echo(folder: Path, size: int, window: int) -> Work:
    host = Host(Address.parse(f"unix:{folder}/cell"), Port.STREAM)
    await host.start()
    payload = bytes(size)

    async def exchange(count: int) -> None:
        waiting = [await host.submit(payload) for _ in range(window)]
        for sent in range(window, count + window):
            answer = await waiting.pop(0).read()
            if len(answer) != size:
                raise AssertionError("the echo lost something")
            if sent < count:
                waiting.append(await host.submit(payload))

    return exchange


async def _bare_pour(folder: Path, size: int, _: int) -> Work:
    reader, writer = await asyncio.open_unix_connection(folder / "pour")

    async def ask(count: int) -> None:
        writer.write(size.to_bytes(4, "big") + count.to_bytes(4, "big"))
        for _ in range(count):
            await reader.readexactly(size)

    return ask


async def _bridge_pour(folder: Path, size: int, _: int) -> Work:
    host = Host(Address.parse(f"unix:{folder}/cell"), Port.OBSERVE)
    await host.start()

    async def ask(count: int) -> None:
        exchange = await host.submit(size.to_bytes(4, "big") + count.to_bytes(4, "big"))
        got = 0
        async for piece in exchange:
            got += len(piece)
        if got != size * count:
            raise AssertionError("the answer lost something")

    return ask


SHAPES = [
    ("round trip", 1, _bare_echo, _bridge_echo),
    ("pipelined", WINDOW, _bare_echo, _bridge_echo),
    ("streamed", 1, _bare_pour, _bridge_pour),
]


class _Clock:
    """Wall and processor time of both processes, as the kernel counts it."""

    def __init__(self, server: int) -> None:
        self._stats = [Path("/proc/self/schedstat"), Path(f"/proc/{server}/schedstat")]

    def _processor(self) -> float:
        return sum(int(stat.read_text().split()[0]) for stat in self._stats) / 1e9

    async def timed(self, work: Work, count: int) -> tuple[float, float]:
        began, used = time.perf_counter(), self._processor()
        await work(count)
        return (time.perf_counter() - began) / count, (self._processor() - used) / count


async def measure(folder: Path, server: int) -> list[dict[str, Any]]:
    clock = _Clock(server)
    return [await _row(clock, folder, size, count, shape) for size, count in SIZES.items() for shape in SHAPES]


async def _row(clock: _Clock, folder: Path, size: int, count: int, shape: Any) -> dict[str, Any]:
    name, window, make_bare, make_bridge = shape
    bare, bridge = await make_bare(folder, size, window), await make_bridge(folder, size, window)
    for work in (bare, bridge):
        await work(count // 4)
    pairs = [(await clock.timed(bare, count), await clock.timed(bridge, count)) for _ in range(ROUNDS)]
    ours = statistics.median(bridge[0] for _, bridge in pairs)
    return {
        "bytes": size,
        "shape": name,
        "bare_us": round(1e6 * statistics.median(bare[0] for bare, _ in pairs), 1),
        "bridge_us": round(1e6 * ours, 1),
        "frames_per_s": round(1 / ours),
        "mb_per_s": round(size / ours / 1e6, 1),
        "ratio": round(statistics.median(bare[0] / bridge[0] for bare, bridge in pairs), 2),
        "processor_ratio": round(statistics.median(bare[1] / bridge[1] for bare, bridge in pairs), 2),
    }


def run() -> list[dict[str, Any]]:
    """Rows of the table, as data."""
    context = multiprocessing.get_context("spawn")
    with tempfile.TemporaryDirectory() as folder:
        ready = context.Event()
        server = context.Process(target=_server_process, args=(folder, ready), daemon=True)
        server.start()
        ready.wait()
        try:
            return asyncio.run(measure(Path(folder), server.pid or 0))
        finally:
            server.kill()
            server.join()


def main() -> None:
    rows = run()
    print("bridge: ratio of a bare asyncio echo's speed (1.0 = as fast); goal 0.5 at 1 KiB, 0.8 at 64 KiB")
    for row in rows:
        print(
            "  {bytes:>6} B {shape:<10}  bare {bare_us:>7} us  bridge {bridge_us:>7} us  {frames_per_s:>6} frames/s  "
            "{mb_per_s:>7} MB/s  ratio {ratio:<5} by processor time {processor_ratio}".format(**row)
        )
    print(json.dumps({"bridge": rows}))


if __name__ == "__main__":
    main()
