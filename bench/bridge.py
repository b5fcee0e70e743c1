"""The bridge against a bare asyncio echo: the same payloads, the same Unix socket, the same run.

The bare echo is the least an asyncio program can do that knows its messages: streams, `readexactly` of a fixed
size on both sides, no header, no checksum, no flow control of its own, no resume.

Two shapes: `round trip` sends the next payload when the last has come back; `pipelined` keeps a window of them on
the way. Server and client are two processes. Rounds of both alternate, so a slow minute hits both.
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


async def _serve(folder: Path, ready: Any) -> None:
    async def bare(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        size = int.from_bytes(await reader.readexactly(4), "big")
        try:
            while True:
                writer.write(await reader.readexactly(size))
                await writer.drain()
        except asyncio.IncompleteReadError:
            writer.close()

    server = CellServer({Port.STREAM: _Echo()})
    await server.start(Address.parse(f"unix:{folder}/cell"))
    await asyncio.start_unix_server(bare, folder / "bare")
    ready.set()
    await asyncio.Event().wait()


def _server_process(folder: str, ready: Any) -> None:
    asyncio.run(_serve(Path(folder), ready))


Exchange = Callable[[int, int], Awaitable[None]]     # (count, window)


async def _bare_client(folder: Path, size: int) -> Exchange:
    reader, writer = await asyncio.open_unix_connection(folder / "bare")
    writer.write(size.to_bytes(4, "big"))
    payload = bytes(size)

    async def exchange(count: int, window: int) -> None:
        for _ in range(window):
            writer.write(payload)
        for sent in range(window, count + window):
            await reader.readexactly(size)
            if sent < count:
                writer.write(payload)       # the window bounds what is on the way; draining here could deadlock

    return exchange


async def _bridge_client(folder: Path, size: int) -> Exchange:
    host = Host(Address.parse(f"unix:{folder}/cell"), Port.STREAM)
    await host.start()
    payload = bytes(size)

    async def exchange(count: int, window: int) -> None:
        waiting = [await host.submit(payload) for _ in range(window)]
        for sent in range(window, count + window):
            answer = await waiting.pop(0).read()
            if len(answer) != size:
                raise AssertionError("the echo lost something")
            if sent < count:
                waiting.append(await host.submit(payload))

    return exchange


async def _timed(exchange: Exchange, count: int, window: int) -> float:
    began = time.perf_counter()
    await exchange(count, window)
    return (time.perf_counter() - began) / count


async def measure(folder: Path) -> list[dict[str, Any]]:
    rows = []
    for size, count in SIZES.items():
        bare, bridge = await _bare_client(folder, size), await _bridge_client(folder, size)
        for shape, window in (("round trip", 1), ("pipelined", WINDOW)):
            await _timed(bare, count // 4, window)
            await _timed(bridge, count // 4, window)
            pairs = [(await _timed(bare, count, window), await _timed(bridge, count, window)) for _ in range(ROUNDS)]
            ours = statistics.median(pair[1] for pair in pairs)
            rows.append({
                "bytes": size,
                "shape": shape,
                "bare_us": round(1e6 * statistics.median(pair[0] for pair in pairs), 1),
                "bridge_us": round(1e6 * ours, 1),
                "frames_per_s": round(1 / ours),
                "mb_per_s": round(size / ours / 1e6, 1),
                "ratio": round(statistics.median(pair[0] / pair[1] for pair in pairs), 2),
            })
    return rows


def run() -> list[dict[str, Any]]:
    """Rows of the table, as data."""
    context = multiprocessing.get_context("spawn")
    with tempfile.TemporaryDirectory() as folder:
        ready = context.Event()
        server = context.Process(target=_server_process, args=(folder, ready), daemon=True)
        server.start()
        ready.wait()
        try:
            return asyncio.run(measure(Path(folder)))
        finally:
            server.kill()
            server.join()


def main() -> None:
    rows = run()
    print("bridge: ratio of a bare asyncio echo's speed (1.0 = as fast); goal 0.5 at 1 KiB, 0.8 at 64 KiB")
    for row in rows:
        print("  {bytes:>6} B {shape:<10}  bare {bare_us:>7} us  bridge {bridge_us:>7} us  "
              "{frames_per_s:>6} frames/s  {mb_per_s:>7} MB/s  ratio {ratio}".format(**row))
    print(json.dumps({"bridge": rows}))


if __name__ == "__main__":
    main()
