"""A small agent: calls and queries over the Internet Computer's HTTP interface, certificates checked.

    agent = Agent(url, root_key, key)
    reply = agent.call(canister, "report_answer", argument)     believed because the subnet certified it
    reply = agent.query(canister, "status", argument)           one node's word

Blocking; one agent for one thread. `Remote` has the shape of `devnet.replica.Replica`, so that what is written over a
canister in this process also works over one behind an address.
"""

from __future__ import annotations

import http.client
import secrets
import time
from collections.abc import Mapping
from hashlib import sha224
from typing import Any, Final
from urllib.parse import urlsplit

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from attestation.consensus.certificate import parse_certificate, verify_certificate
from attestation.consensus.certified_time import parse_time
from attestation.consensus.principal import to_text
from attestation.consensus.request_id import representation_independent_hash
from devnet.replica import ANONYMOUS, Call, RejectCode, Rejection
from devnet.replica.certification import ED25519_DER
from foundation import cbor
from foundation.digests import domain
from foundation.refusal import Refused

SECONDS_MAX: Final = 30
POLL_S: Final = 0.2
EXPIRY_NS: Final = 4 * 60 * 10**9
ANSWER_BYTES_MAX: Final = 8 << 20
NONCE_BYTES: Final = 16


class AgentRefused(Refused):
    """The address does not answer as the interface says."""

    stage = "devnet.agent"


class Agent:
    def __init__(self, url: str, root_key: bytes, key: Ed25519PrivateKey | None = None) -> None:
        self._address: Final = urlsplit(url).netloc
        self._root_key: Final = root_key
        self._key: Final = key
        self._public: Final = b"" if key is None else ED25519_DER + key.public_key().public_bytes_raw()
        self.principal: Final = ANONYMOUS if key is None else sha224(self._public).digest() + b"\x02"

    # ---- what is asked

    def query(self, canister: bytes, method: str, argument: bytes) -> bytes:
        """Raises `Rejected`, `AgentRefused` or `OSError`."""
        content = self._asks("query", canister, method, argument)
        _, said = self._post(canister, 3, "query", content)
        if said.get("status") == "replied":
            reply: bytes = said["reply"]["arg"]
            return reply
        raise _rejection(said).refused()

    def call(self, canister: bytes, method: str, argument: bytes, about: bytes | None = None) -> bytes:
        """The certified reply. `about` is whom a call to the management canister is for. Raises as `query`."""
        content = self._asks("call", canister, method, argument)
        request_id = representation_independent_hash(content)
        about = canister if about is None else about
        status, said = self._post(about, 4, "call", content)
        if status == 200 and said.get("status") != "replied":
            raise _rejection(said).refused()
        until = time.monotonic() + SECONDS_MAX
        certificate = said.get("certificate")
        while (outcome := self._outcome(about, request_id, certificate)) is None:
            if time.monotonic() > until:
                raise AgentRefused("late", expected=f"a response within {SECONDS_MAX} s", got="none")
            time.sleep(POLL_S)
            certificate = self._read(about, [b"request_status", request_id])
        if isinstance(outcome, Rejection):
            raise outcome.refused()
        return outcome

    # ---- on the wire

    def _asks(self, kind: str, canister: bytes, method: str, argument: bytes) -> dict[str, Any]:
        return self._content(kind, canister_id=canister, method_name=method, arg=argument)

    def _content(self, kind: str, **more: Any) -> dict[str, Any]:
        return {
            "request_type": kind,
            "sender": self.principal,
            "ingress_expiry": time.time_ns() + EXPIRY_NS,
            "nonce": secrets.token_bytes(NONCE_BYTES),
            **more,
        }

    def _read(self, canister: bytes, path: list[bytes]) -> bytes:
        _, said = self._post(canister, 3, "read_state", self._content("read_state", paths=[path]))
        certificate: bytes = said["certificate"]
        return certificate

    def _post(self, canister: bytes, version: int, what: str, content: Mapping[str, Any]) -> tuple[int, dict[str, Any]]:
        envelope: dict[str, Any] = {"content": dict(content)}
        if self._key is not None:
            request_id = representation_independent_hash(content)
            envelope |= {"sender_pubkey": self._public, "sender_sig": self._key.sign(domain("ic-request") + request_id)}
        connection = http.client.HTTPConnection(self._address, timeout=SECONDS_MAX)
        try:
            body = cbor.encode(cbor.Tag(cbor.SELF_DESCRIBED, envelope))
            path = f"/api/v{version}/canister/{to_text(canister)}/{what}"
            connection.request("POST", path, body, {"content-type": "application/cbor"})
            response = connection.getresponse()
            raw = response.read(ANSWER_BYTES_MAX)
        except http.client.HTTPException as broken:
            raise AgentRefused("http", expected="an answer", got=type(broken).__name__) from None
        finally:
            connection.close()
        if response.status == 202:
            return 202, {}
        if response.status != 200:
            said = raw[:200].decode("utf-8", "replace")
            raise AgentRefused("status", expected="200", got=f"{response.status}: {said}")
        value = cbor.decode_foreign(raw)
        found = value.value if isinstance(value, cbor.Tag) else value
        if not isinstance(found, dict):
            raise AgentRefused("body", expected="a map", got=type(found).__name__)
        return 200, {str(name): item for name, item in found.items()}

    def _outcome(self, canister: bytes, request_id: bytes, certificate: bytes | None) -> bytes | Rejection | None:
        if certificate is None:
            return None
        proven = verify_certificate(parse_certificate(certificate), root_key=self._root_key, canister=canister)
        below = (b"request_status", request_id)
        status = proven.demand((*below, b"status"))
        if status == b"replied":
            return proven.demand((*below, b"reply"))
        if status == b"rejected":
            code = RejectCode(parse_time(proven.demand((*below, b"reject_code"))))
            return Rejection(code, proven.demand((*below, b"reject_message")).decode())
        return None


def _rejection(said: Mapping[str, Any]) -> Rejection:
    return Rejection(RejectCode(said["reject_code"]), said["reject_message"])


class Remote:
    """One canister behind an agent, with the two methods that typed wrappers use."""

    def __init__(self, agent: Agent, canister_id: bytes) -> None:
        self._agent, self.canister_id = agent, canister_id

    def ingress(self, method: str, argument: bytes, caller: bytes) -> Call:
        self._check(caller)
        call = Call(self.canister_id, method, argument, caller)
        call.outcome = self._agent.call(self.canister_id, method, argument)
        return call

    def query(self, method: str, argument: bytes, _caller: bytes = ANONYMOUS) -> bytes:
        return self._agent.query(self.canister_id, method, argument)

    def _check(self, caller: bytes) -> None:
        if caller != self._agent.principal:
            raise AgentRefused("caller", expected=to_text(self._agent.principal), got=to_text(caller))
