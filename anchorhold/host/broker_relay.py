"""The replica host's part in a key release: carries messages between the cell's window and the broker's HTTPS address.

The host keeps the session's cookie and understands nothing else: every message is opaque to it. A cut on either side
ends the attempt, and the next one begins anew. TLS here protects metadata on the way; what the cell believes is the
broker's signature (docs/spec/key-release.md R25).
"""

from __future__ import annotations

import asyncio
import http.client
import re
import ssl
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlsplit

from appliance.key_release import (
    Begin,
    Brought,
    Carry,
    Declined,
    ReleaseRefused,
    Say,
    Standing,
    State,
    StateQuery,
    decode_say,
    encode_ask,
)
from attestation.rcar.messages import COOKIE
from foundation.refusal import Refused
from vsock_bridge.host import Host

PREFIX: Final = "/kbs/v0/"
ANSWER_BYTES_MAX: Final = 512 * 1024
SECONDS_MAX: Final = 30.0
STEPS_MAX: Final = 8
UNREACHABLE: Final = 0  # no status of HTTP: the broker could not be reached

Send = Callable[[Carry], tuple[int, bytes]]


# R25: all that a cell has to ask a broker. Written out here: the host does not take the cell's word for it.
_PART: Final = "[a-z0-9][a-z0-9._-]{0,63}"
ERRANDS: Final = (
    ("POST", re.compile("auth")),
    ("POST", re.compile("attest")),
    ("GET", re.compile(f"resource/{_PART}(?:/{_PART}){{2}}")),
)


class RelayRefused(Refused):
    """The address is none, or the cell says what no cell says."""

    stage = "relay"


def refuse_other_errands(carry: Carry) -> None:
    """Raises `RelayRefused` for what is not one of RCAR's three, before anything leaves the host."""
    if not any(carry.method == method and path.fullmatch(carry.path) for method, path in ERRANDS):
        raise RelayRefused(
            "relay.errand",
            expected="POST auth, POST attest or GET resource/<repository>/<type>/<tag>",
            got=f"{carry.method[:16]!r} {carry.path[:64]!r}",
        )
    if carry.method == "GET" and carry.body:
        raise RelayRefused("relay.body", expected="none with GET", got=f"{len(carry.body)} bytes")


@dataclass
class BrokerAddress:
    """One session with the broker at an address. Blocking; use it from a thread."""

    url: str
    authority: str | None = None  # a file of certificates to believe instead of the system's
    cookie: str | None = None

    def __call__(self, carry: Carry) -> tuple[int, bytes]:
        refuse_other_errands(carry)
        parts = urlsplit(self.url)
        if parts.scheme != "https" or not parts.hostname:
            raise RelayRefused("relay.url", expected="https://host[:port]", got=self.url[:64])
        context = ssl.create_default_context(cafile=self.authority)
        connection = http.client.HTTPSConnection(
            parts.hostname, parts.port or 443, timeout=SECONDS_MAX, context=context
        )
        headers = {"content-type": "application/json"} | ({"cookie": f"{COOKIE}={self.cookie}"} if self.cookie else {})
        try:
            connection.request(carry.method, f"{PREFIX}{carry.path}", carry.body, headers)
            response = connection.getresponse()
            body = response.read(ANSWER_BYTES_MAX + 1)
            self._remember(response.headers.get_all("set-cookie") or [])
            return response.status, body[:ANSWER_BYTES_MAX]
        except (OSError, http.client.HTTPException):
            return UNREACHABLE, b""
        finally:
            connection.close()

    def _remember(self, cookies: list[str]) -> None:
        for cookie in cookies:
            name, _, value = cookie.partition(";")[0].partition("=")
            if name.strip() == COOKIE:
                self.cookie = value.strip()


async def relay(host: Host, send: Send) -> Standing:
    """One attempt: where the cell stands after it. The cell decides; this only carries."""
    said = await _ask(host, encode_ask(Begin()))
    for _ in range(STEPS_MAX):
        match said:
            case Standing():
                return said
            case Carry(number):
                refuse_other_errands(said)
                status, body = await asyncio.to_thread(send, said)
                said = await _ask(host, encode_ask(Brought(number, status, body)))
            case Declined():  # somebody else is at it: the cell hears one attempt, the newest
                said = await _ask(host, encode_ask(StateQuery()))
    raise RelayRefused("relay.steps", expected=f"an end within {STEPS_MAX} messages", got="none")


def holds_key(standing: Standing) -> bool:
    return standing.state is State.HAS_KEY


async def _ask(host: Host, item: bytes) -> Say:
    try:
        return decode_say(await host.ask(item))
    except ReleaseRefused as refusal:
        raise RelayRefused(refusal.code, expected=refusal.expected, got=refusal.got) from refusal
