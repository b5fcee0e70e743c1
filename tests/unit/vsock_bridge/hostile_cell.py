"""A cell in a process of its own, for `test_hostile`: an echo at the path it is given, until its input ends."""

from __future__ import annotations

import asyncio
import sys

from vsock_bridge.limits import Limits
from vsock_bridge.ports import Port
from vsock_bridge.server import Answer, CellServer
from vsock_bridge.transport import Address

LIMITS = Limits(
    window_bytes=768 * 1024,
    retained_bytes_max=512 * 1024,
    item_bytes_max=256 * 1024,
    connections_max=32,
    streams_max=16,
    hello_seconds_max=0.5,
    frame_seconds_max=0.5,
    silence_seconds_max=2.0,
    stall_seconds_max=0.5,
)


class _Echo:
    async def serve(self, item: bytes, answer: Answer) -> None:
        await answer.end(item)


async def main(path: str) -> None:
    server = CellServer({Port.STREAM: _Echo()}, LIMITS)
    await server.start(Address.parse(f"unix:{path}"))
    print("ready", flush=True)
    await asyncio.to_thread(sys.stdin.read)
    await server.close()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
