"""A broker behind its HTTPS edge, in a thread of this process, for clients that block."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from anchorhold.owner.broker_process import write_certificate
from attestation.broker.broker import Broker
from attestation.broker.server import BrokerServer, ServerLimits, tls_context


@contextmanager
def served(broker: Broker, folder: Path, limits: ServerLimits | None = None) -> Iterator[tuple[int, str]]:
    """Its port, and the file of certificates to believe."""
    write_certificate(folder)
    ready, stop, port = threading.Event(), asyncio.Event(), [0]
    loops: list[asyncio.AbstractEventLoop] = []

    async def run() -> None:
        loops.append(asyncio.get_running_loop())
        context = tls_context(folder / "tls.pem", folder / "tls.key")
        async with BrokerServer(broker, context, limits) as server:
            port[0] = await server.start("127.0.0.1", 0)
            ready.set()
            await stop.wait()

    thread = threading.Thread(target=lambda: asyncio.run(run()))
    thread.start()
    try:
        ready.wait()
        yield port[0], str(folder / "tls.pem")
    finally:
        loops[0].call_soon_threadsafe(stop.set)
        thread.join()
