"""A real broker behind its HTTPS edge, and what asks it: over the wire, as a host carries it."""

from __future__ import annotations

import http.client
import json
import ssl
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

from attestation.broker.broker import Reply
from attestation.broker.rates import Rate
from attestation.broker.server import ServerLimits
from attestation.policy.claims import Appraisal, Claim, ClaimStanding
from attestation.rcar.messages import COOKIE
from devnet.tee import SimulatedSnpTee
from tests.attack.outcome import Outcome, Unexpected, broken, held
from tests.attack.room import Room
from tests.attack.weakening import Patch
from tests.little_broker import MODEL_KEY, SECRETS, LittleBroker, LittleCell
from tests.little_tee import snp_tee
from tests.served_broker import served

GENEROUS: Final = ServerLimits(each=Rate(10_000, 10_000), all_together=Rate(10_000, 10_000))


class Refusal(Exception):
    """The broker's answer, where it is not 200."""

    def __init__(self, status: int, code: str) -> None:
        super().__init__(f"{status} {code}")
        self.status, self.code = status, code


@dataclass
class Remote:
    """The broker's three questions over HTTPS; in the place of a `Broker` wherever one is asked."""

    port: int
    authority: str

    def call(self, method: str, path: str, body: bytes | None, cookie: str | None) -> tuple[int, bytes, str | None]:
        context = ssl.create_default_context(cafile=self.authority)
        connection = http.client.HTTPSConnection("localhost", self.port, context=context, timeout=60)
        headers = {"content-type": "application/json"} | ({"cookie": f"{COOKIE}={cookie}"} if cookie else {})
        try:
            connection.request(method, f"/kbs/v0/{path}", body, headers)
            response = connection.getresponse()
            made = (response.headers.get("set-cookie") or "").partition(";")[0].partition("=")[2] or None
            return response.status, response.read(), made
        finally:
            connection.close()

    def _asked(self, method: str, path: str, body: bytes | None, cookie: str | None) -> Reply:
        status, raw, made = self.call(method, path, body, cookie)
        if status != 200:
            raise Refusal(status, json.loads(raw)["type"].rpartition("/")[2])
        return Reply(raw, made)

    def auth(self, body: bytes) -> Reply:
        return self._asked("POST", "auth", body, None)

    def attest(self, cookie: str | None, body: bytes) -> Reply:
        return self._asked("POST", "attest", body, cookie)

    def resource(self, cookie: str | None, path: str) -> Reply:
        return self._asked("GET", f"resource/{path}", None, cookie)


@contextmanager
def https_broker(
    room: Room,
    tee: SimulatedSnpTee | None = None,
    *,
    limits: ServerLimits = GENEROUS,
    change: Callable[[LittleBroker], None] = lambda _: None,
) -> Iterator[tuple[LittleBroker, Remote]]:
    """A broker that holds a model key, a service key and a plain secret for one approved release of one machine."""
    room.folder.mkdir(exist_ok=True)
    little = LittleBroker.make(room.folder, tee or snp_tee())
    change(little)
    try:
        with served(little.broker, room.folder, limits) as (port, authority):
            yield little, Remote(port, authority)
    finally:
        little.store.close()


def key_or_code(cell: LittleCell, remote: Remote, little: LittleBroker, raw: bytes | None = None) -> str:
    """The refusal's code of an attestation, or of the fetching behind it; `"key"` if the model key came out."""
    try:
        cell.attest(remote, raw)  # type: ignore[arg-type]  # asked as a broker is
        _, secret = cell.open(cell.fetch(remote, MODEL_KEY), little.public)  # type: ignore[arg-type]
    except Refusal as refusal:
        return refusal.code
    return "key" if secret == SECRETS[MODEL_KEY] else "other bytes"


def no_key(got: str, code: str) -> Outcome:
    if got == code:
        return held(f"denied: {code}")
    if got == "key":
        return broken("the model's key came out")
    raise Unexpected(f"expected {code} or the key, got {got}")


def everything_accepted(patch: Patch) -> None:
    """A broker that applies no policy to genuine evidence."""
    met = Claim("attack.any", "E134", ClaimStanding.MET, "anything", "something")
    patch.put(
        "attestation.broker.session:appraise_bundle",
        lambda bundle, references, policy, *, nonce: Appraisal("snp", policy.id, (met,)),
    )
