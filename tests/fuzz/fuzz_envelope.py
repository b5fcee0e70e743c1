"""Invariant: whatever a client of the devnet sends, reading it ends in a request or in RequestRefused; and the only
requests of a sender with a key are those that its key signed.
"""

from __future__ import annotations

from hashlib import sha224
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from attestation.consensus.request_id import representation_independent_hash
from devnet.replica.envelopes import RequestRefused, authenticate, parse
from devnet.replica.messages import ANONYMOUS
from foundation import cbor
from foundation.digests import domain

NOW_NS = 1_700_000_000 * 10**9
_KEY, _SESSION = (Ed25519PrivateKey.from_private_bytes(bytes([number]) * 32) for number in (1, 2))
_DER = bytes.fromhex("302a300506032b6570032100")
_signed: set[bytes] = set()


def _body(content: dict[str, Any], *, delegated: bool) -> bytes:
    public = _DER + _KEY.public_key().public_bytes_raw()
    content = {"sender": sha224(public).digest() + b"\2", "ingress_expiry": NOW_NS + 10**9, **content}
    request_id = representation_independent_hash(content)
    _signed.add(request_id)
    envelope: dict[str, Any] = {"content": content, "sender_pubkey": public}
    if delegated:
        delegation = {"pubkey": _DER + _SESSION.public_key().public_bytes_raw(), "expiration": NOW_NS + 10**9}
        message = domain("ic-request-auth-delegation") + representation_independent_hash(delegation)
        envelope["sender_delegation"] = [{"delegation": delegation, "signature": _KEY.sign(message)}]
    envelope["sender_sig"] = (_SESSION if delegated else _KEY).sign(domain("ic-request") + request_id)
    return cbor.encode(cbor.Tag(cbor.SELF_DESCRIBED, envelope))


_CALL = {"request_type": "call", "canister_id": b"\0\1", "method_name": "m", "arg": b"x", "nonce": b"n"}
SEEDS: list[bytes] = [
    _body(_CALL, delegated=False),
    _body(_CALL, delegated=True),
    _body({"request_type": "read_state", "paths": [[b"time"], []]}, delegated=False),
    cbor.encode({"content": {**_CALL, "sender": ANONYMOUS, "ingress_expiry": NOW_NS + 1}}),
]


def one_input(data: bytes) -> None:
    try:
        request = authenticate(parse(data), NOW_NS)
    except RequestRefused:
        return
    assert request.sender == ANONYMOUS or request.request_id in _signed
