"""A window without a cell behind it: three small services on AF_VSOCK, for trying the bridge and nothing else.

STREAM      echoes an item; `pieces N` is answered with N pieces of a known pattern
RELEASE     answers with the SHA-256 of an item
OBSERVE     asks the item of this guest's own STREAM port, as a host, over AF_VSOCK
"""

from __future__ import annotations

import asyncio
import hashlib
import signal
import socket

from vsock_bridge.host import Host
from vsock_bridge.ports import Port
from vsock_bridge.server import Answer, CellServer
from vsock_bridge.transport import Address

PIECE_BYTES = 64 * 1024
VMADDR_CID_LOCAL = 1


def piece(number: int) -> bytes:
    """Different for every number, so that one lost, doubled or moved shows."""
    return hashlib.sha256(number.to_bytes(8, "big")).digest() * (PIECE_BYTES // 32)


class Echo:
    async def serve(self, item: bytes, answer: Answer) -> None:
        word, _, count = item[:32].partition(b" ")
        if word != b"pieces":
            await answer.end(item)
            return
        for number in range(int(count)):
            await answer.send(piece(number))


class Digest:
    async def serve(self, item: bytes, answer: Answer) -> None:
        await answer.end(hashlib.sha256(item).digest())


class Mirror:
    async def serve(self, item: bytes, answer: Answer) -> None:
        async with Host(Address.parse(f"vsock:{VMADDR_CID_LOCAL}"), Port.STREAM) as host:
            await answer.end(await host.ask(item))


async def main() -> None:
    stopped = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stopped.set)
    async with CellServer({Port.STREAM: Echo(), Port.RELEASE: Digest(), Port.OBSERVE: Mirror()}) as server:
        await server.start(Address.parse("vsock:any"))
        print(f'{{"event": "serving", "address": "vsock:any", "family": {int(socket.AF_VSOCK)}}}', flush=True)
        await stopped.wait()
    print('{"event": "stopped"}', flush=True)


if __name__ == "__main__":
    asyncio.run(main())
