"""The HTTPS edge: three paths of the protocol, bounded in bytes, time and number, and nothing else.

    POST /kbs/v0/auth        POST /kbs/v0/attest        GET /kbs/v0/resource/<repository>/<type>/<tag>

HTTP/1.1 is h11's, TLS the standard library's; what is decided is `broker`'s, on threads, so that one slow judgement
holds up nobody's handshake. A log line names codes and never what was sent (docs/spec/key-release.md R1, R24).
"""

from __future__ import annotations

import asyncio
import ssl
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Final, Self

import h11
import structlog

from attestation.broker.broker import Broker, Reply
from attestation.broker.errors import BrokerRefused, Busy, UnknownResource
from attestation.broker.rates import Rate, RateLimits
from attestation.rcar.errors import RcarRefused
from attestation.rcar.messages import ATTESTATION_BYTES_MAX, COOKIE, REQUEST_BYTES_MAX, encode_error
from foundation.refusal import Refused, shown

PREFIX: Final = "/kbs/v0/"
HEADER_BYTES_MAX: Final = 16 * 1024
THREADS: Final = 8
REASONS: Final = {
    200: b"OK",
    400: b"Bad Request",
    401: b"Unauthorized",
    403: b"Forbidden",
    404: b"Not Found",
    413: b"Content Too Large",
    429: b"Too Many Requests",
    500: b"Internal Server Error",
}

_log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class ServerLimits:
    connections_max: int = 256
    request_seconds_max: float = 20.0  # from a request's first byte to its last, and between two requests
    requests_per_connection_max: int = 64
    each: Rate = field(default_factory=lambda: Rate(20, 2))
    all_together: Rate = field(default_factory=lambda: Rate(200, 50))


class TooLarge(BrokerRefused):
    """A body beyond what its path takes."""

    status = 413


class _HungUp(Exception):
    """The peer is gone, late, or done: there is nobody to answer."""


class BrokerServer:
    """`async with BrokerServer(broker, context) as server: await server.start(host, port)`."""

    def __init__(self, broker: Broker, context: ssl.SSLContext, limits: ServerLimits | None = None) -> None:
        self._broker: Final = broker
        self._context: Final = context
        self._limits: Final = limits or ServerLimits()
        self._rates: Final = RateLimits(self._limits.each, self._limits.all_together, time.monotonic())
        self._threads: Final = ThreadPoolExecutor(THREADS, thread_name_prefix="broker")
        self._open: Final[set[asyncio.Task[None]]] = set()
        self._server: asyncio.Server | None = None

    async def start(self, host: str, port: int) -> int:
        """Listen; the port that was taken."""
        self._server = await asyncio.start_server(
            self._accept,
            host,
            port,
            ssl=self._context,
            limit=64 * 1024,
            ssl_handshake_timeout=self._limits.request_seconds_max,
        )
        return int(self._server.sockets[0].getsockname()[1])

    async def close(self) -> None:
        if self._server is not None:
            self._server.close()
        for task in tuple(self._open):
            task.cancel()
        await asyncio.gather(*self._open, return_exceptions=True)
        self._threads.shutdown(wait=True)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *reason: object) -> None:
        await self.close()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        if task is None or len(self._open) >= self._limits.connections_max:
            writer.close()
            return
        self._open.add(task)
        try:
            await self._converse(reader, writer)
        except (_HungUp, OSError, TimeoutError):
            pass
        finally:
            self._open.discard(task)
            writer.close()

    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        address = str(writer.get_extra_info("peername", ("?",))[0])
        connection = h11.Connection(h11.SERVER, max_incomplete_event_size=HEADER_BYTES_MAX)
        for _ in range(self._limits.requests_per_connection_max):
            async with asyncio.timeout(self._limits.request_seconds_max):
                status, body, cookie = await self._one(connection, reader, address)
            headers = [
                ("content-type", "application/json"),
                ("content-length", str(len(body))),
                ("cache-control", "no-store"),
            ]
            if cookie is not None:
                headers.append(("set-cookie", f"{COOKIE}={cookie}; Path=/kbs/v0; Secure; HttpOnly; SameSite=Strict"))
            if connection.their_state is not h11.DONE:
                headers.append(("connection", "close"))
            self._write(connection, writer, h11.Response(status_code=status, headers=headers, reason=REASONS[status]))
            self._write(connection, writer, h11.Data(data=body))
            self._write(connection, writer, h11.EndOfMessage())
            async with asyncio.timeout(self._limits.request_seconds_max):
                await writer.drain()
            if connection.our_state is h11.MUST_CLOSE or connection.their_state is not h11.DONE:
                return
            connection.start_next_cycle()

    @staticmethod
    def _write(connection: h11.Connection, writer: asyncio.StreamWriter, event: h11.Event) -> None:
        writer.write(connection.send(event) or b"")

    async def _one(
        self, connection: h11.Connection, reader: asyncio.StreamReader, address: str
    ) -> tuple[int, bytes, str | None]:
        """The answer to one request: status, body, cookie."""
        try:
            request = await _next(connection, reader)
            if not isinstance(request, h11.Request):
                raise _HungUp
            if not self._rates.allows(address, time.monotonic()):
                raise Busy("rate.requests", expected="fewer requests", got="requests over the rate")
            reply = await self._answered(request, connection, reader)
            return 200, reply.body, reply.cookie
        except h11.RemoteProtocolError:
            raise _HungUp from None
        except RcarRefused as refusal:
            return _refused(400, refusal)
        except BrokerRefused as refusal:
            return _refused(refusal.status, refusal)
        except (_HungUp, TimeoutError, OSError):
            raise
        except Exception as fault:  # noqa: BLE001  # whatever it was, it is ours; why is not for the client
            _log.error("fault", exc_info=fault)
            return 500, encode_error("internal", "the broker failed"), None

    async def _answered(self, request: h11.Request, connection: h11.Connection, reader: asyncio.StreamReader) -> Reply:
        path = request.target.decode("ascii", "replace")
        cookie = _cookie(request)
        match request.method, path.removeprefix(PREFIX) if path.startswith(PREFIX) else "":
            case b"POST", "auth":
                body = await _body(connection, reader, REQUEST_BYTES_MAX)
                return await self._on_thread(partial(self._broker.auth, body))
            case b"POST", "attest":
                body = await _body(connection, reader, ATTESTATION_BYTES_MAX)
                return await self._on_thread(partial(self._broker.attest, cookie, body))
            case b"GET", rest if rest.startswith("resource/"):
                await _body(connection, reader, 0)
                return await self._on_thread(partial(self._broker.resource, cookie, rest.removeprefix("resource/")))
            case _:
                raise UnknownResource("path.unknown", expected=f"a path under {PREFIX}", got=shown(path))

    async def _on_thread(self, work: partial[Reply]) -> Reply:
        return await asyncio.get_running_loop().run_in_executor(self._threads, work)


def tls_context(certificate: Path, key: Path) -> ssl.SSLContext:
    """A server's context: TLS 1.3 alone."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.load_cert_chain(certificate, key)
    return context


async def _next(connection: h11.Connection, reader: asyncio.StreamReader) -> object:
    while (event := connection.next_event()) is h11.NEED_DATA:
        connection.receive_data(await reader.read(64 * 1024))
    return event


async def _body(connection: h11.Connection, reader: asyncio.StreamReader, bytes_max: int) -> bytes:
    body = bytearray()
    while not isinstance(event := await _next(connection, reader), h11.EndOfMessage):
        if not isinstance(event, h11.Data):
            raise _HungUp
        body += event.data
        if len(body) > bytes_max:
            raise TooLarge("body.size", expected=f"at most {bytes_max} bytes", got=f"{len(body)} bytes or more")
    return bytes(body)


def _cookie(request: h11.Request) -> str | None:
    """The session's cookie, if there is exactly one."""
    found = [
        value
        for name, text in request.headers
        if name == b"cookie"
        for part in text.decode("ascii", "replace").split(";")
        for key, _, value in [part.strip().partition("=")]
        if key == COOKIE
    ]
    return found[0] if len(found) == 1 and len(found[0]) <= 64 else None


def _refused(status: int, refusal: Refused) -> tuple[int, bytes, None]:
    _log.info("refused", status=status, code=refusal.code)
    # R24: the code alone: what was expected is the operator's business, and what came was the client's choice.
    return status, encode_error(refusal.code, "refused"), None
