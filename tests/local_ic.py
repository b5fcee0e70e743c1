"""A running network with its HTTP interface, in a thread of the test, and a client small enough to tamper with."""

from __future__ import annotations

import asyncio
import http.client
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from hashlib import sha224
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, utils
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from attestation.consensus.certificate import parse_certificate, verify_certificate
from attestation.consensus.principal import to_text
from attestation.consensus.request_id import representation_independent_hash
from devnet.replica.running import Running
from devnet.replica.serving import serving
from foundation import cbor
from foundation.digests import domain

T = TypeVar("T")
MINUTE_NS = 60 * 10**9


class LocalIc:
    """What a test sees of it. `do` runs a function where the network may be touched, and saves."""

    def __init__(self, running: Running, url: str, loop: asyncio.AbstractEventLoop) -> None:
        self.running, self.url, self._loop = running, url, loop

    def do(self, what: Callable[[], T]) -> T:
        return asyncio.run_coroutine_threadsafe(self.running.change(what), self._loop).result(60)

    def now_ns(self) -> int:
        return self.do(self.running.time.go_on)

    def post(self, path: str, body: bytes) -> tuple[int, bytes]:
        connection = http.client.HTTPConnection(urlsplit(self.url).netloc, timeout=60)
        try:
            connection.request("POST", path, body, {"Content-Type": "application/cbor"})
            response = connection.getresponse()
            return response.status, response.read()
        finally:
            connection.close()

    def get(self, path: str, method: str = "GET", headers: Mapping[str, str] | None = None) -> http.client.HTTPResponse:
        connection = http.client.HTTPConnection(urlsplit(self.url).netloc, timeout=60)
        connection.request(method, path, headers=dict(headers or {}))
        response = connection.getresponse()
        response.body = response.read()  # type: ignore[attr-defined]
        connection.close()
        return response


@contextmanager
def local_ic(folder: Path) -> Iterator[LocalIc]:
    started: dict[str, Any] = {}
    ready = threading.Event()

    async def main() -> None:
        loop, stop = asyncio.get_running_loop(), asyncio.Event()
        running = Running(folder)
        async with running.rounds(), serving(running) as url:
            started.update(ic=LocalIc(running, url, loop), stop=lambda: loop.call_soon_threadsafe(stop.set))
            ready.set()
            await stop.wait()

    def run() -> None:
        try:
            asyncio.run(main())
        finally:
            ready.set()

    thread = threading.Thread(target=run)
    thread.start()
    ready.wait()
    try:
        yield started["ic"]
    finally:
        if "stop" in started:
            started["stop"]()
        thread.join()


class Identity:
    """A key that signs requests: Ed25519, or ECDSA over a curve."""

    def __init__(self, curve: ec.EllipticCurve | None = None) -> None:
        self._key = ed25519.Ed25519PrivateKey.generate() if curve is None else ec.generate_private_key(curve)
        self.der = self._key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        self.principal = sha224(self.der).digest() + b"\2"

    def ed25519(self) -> ed25519.Ed25519PrivateKey:
        assert isinstance(self._key, ed25519.Ed25519PrivateKey)
        return self._key

    def sign(self, message: bytes) -> bytes:
        if isinstance(self._key, ed25519.Ed25519PrivateKey):
            return self._key.sign(message)
        r, s = utils.decode_dss_signature(self._key.sign(message, ec.ECDSA(hashes.SHA256())))
        return r.to_bytes(32, "big") + s.to_bytes(32, "big")

    def delegate(self, to: Identity, expiration: int, targets: list[bytes] | None = None) -> dict[str, Any]:
        delegation: dict[str, Any] = {"pubkey": to.der, "expiration": expiration}
        if targets is not None:
            delegation["targets"] = targets
        message = domain("ic-request-auth-delegation") + representation_independent_hash(delegation)
        return {"delegation": delegation, "signature": self.sign(message)}


@dataclass
class Ask:
    """One request, with every part of it open to a change before it is signed, and after."""

    ic: LocalIc
    identity: Identity | None
    content: dict[str, Any]
    delegations: list[dict[str, Any]] = field(default_factory=list)
    signer: Identity | None = None
    changed_later: dict[str, Any] = field(default_factory=dict)

    @property
    def request_id(self) -> bytes:
        return representation_independent_hash(self.content)

    def envelope(self) -> dict[str, Any]:
        envelope: dict[str, Any] = {"content": {**self.content, **self.changed_later}}
        if self.identity is not None:
            signer = self.signer or self.identity
            envelope["sender_pubkey"] = self.identity.der
            envelope["sender_sig"] = signer.sign(domain("ic-request") + self.request_id)
        if self.delegations:
            envelope["sender_delegation"] = self.delegations
        return envelope

    def body(self) -> bytes:
        return cbor.encode(cbor.Tag(cbor.SELF_DESCRIBED, self.envelope()))

    def send(self, kind: str, version: int, about: bytes | None = None, room: str = "canister") -> tuple[int, Any]:
        about = self.content["canister_id"] if about is None else about
        status, raw = self.ic.post(f"/api/v{version}/{room}/{to_text(about)}/{kind}", self.body())
        if status != 200:
            return status, raw.decode()
        value = cbor.decode_foreign(raw)
        assert isinstance(value, cbor.Tag)
        return status, value.value


def ask(
    ic: LocalIc, kind: str, canister: bytes, method: str, argument: bytes = b"", identity: Identity | None = None
) -> Ask:
    return Ask(
        ic,
        identity,
        {
            "request_type": kind,
            "canister_id": canister,
            "method_name": method,
            "arg": argument,
            "sender": b"\4" if identity is None else identity.principal,
            "ingress_expiry": ic.now_ns() + 4 * MINUTE_NS,
        },
    )


def read(ic: LocalIc, paths: list[list[bytes]], identity: Identity | None = None) -> Ask:
    return Ask(
        ic,
        identity,
        {
            "request_type": "read_state",
            "paths": paths,
            "ingress_expiry": ic.now_ns() + 4 * MINUTE_NS,
            "sender": b"\4" if identity is None else identity.principal,
        },
    )


def certified(ic: LocalIc, certificate: bytes, canister: bytes, path: tuple[bytes, ...]) -> bytes:
    """The value at that path, once the certificate holds under the network's root key."""
    proven = verify_certificate(
        parse_certificate(certificate), root_key=ic.running.certifier.raw_root_key, canister=canister
    )
    return proven.demand(path)
