"""Requests from outside, as clients send them: parsed, and accepted only if signed by the claimed sender.

    envelope = parse(body)                          shape alone
    request = authenticate(envelope, now_ns)        signature, sender, expiry, delegations

Ed25519, ECDSA over P-256 and over secp256k1, each with delegations. Keys of browsers (WebAuthn) and canister
signatures are refused by name. Whatever is wrong raises `RequestRefused`, and the client gets a 400.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha224
from typing import Any, Final

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, utils
from cryptography.hazmat.primitives.serialization import load_der_public_key

from attestation.consensus.request_id import representation_independent_hash
from devnet.replica.messages import ANONYMOUS
from foundation import cbor
from foundation.digests import domain
from foundation.refusal import Refused, outline, shown

MINUTE_NS: Final = 60 * 10**9
EXPIRY_NS_MAX: Final = 6 * MINUTE_NS  # five minutes, and one for clocks that differ
DELEGATIONS_MAX: Final = 20
TARGETS_MAX: Final = 1_000
NONCE_BYTES_MAX: Final = 32
PATHS_MAX: Final = 1_000
LABELS_MAX: Final = 127
PRINCIPAL_BYTES_MAX: Final = 29
_LIMITS: Final = cbor.Limits(bytes_max=5 << 20, depth_max=16, items_max=200_000)
_OTHER_KEYS: Final = {
    bytes.fromhex("300c060a2b0601040183b8430101"): "a WebAuthn key",
    bytes.fromhex("300c060a2b0601040183b8430102"): "a canister signature",
}


class RequestRefused(Refused):
    """What a client sent is not a request, or not from whom it says. Answered with a 400."""

    stage = "devnet.request"


@dataclass(frozen=True, slots=True)
class Envelope:
    """A request and its claimed proof; not yet verified."""

    content: Mapping[str, Any]
    public_key: bytes | None
    signature: bytes | None
    delegations: tuple[Mapping[str, Any], ...]


@dataclass(frozen=True, slots=True)
class Request:
    """A request that comes from its sender."""

    request_id: bytes
    kind: str
    sender: bytes
    expiry_ns: int
    canister: bytes = b""
    method: str = ""
    argument: bytes = b""
    paths: tuple[tuple[bytes, ...], ...] = ()


_ALWAYS: Final = {"request_type": str, "sender": bytes, "ingress_expiry": int}
_ASKS: Final = {"canister_id": bytes, "method_name": str, "arg": bytes}
_FIELDS: Final[Mapping[str, Mapping[str, type]]] = {
    "call": {**_ALWAYS, **_ASKS},
    "query": {**_ALWAYS, **_ASKS},
    "read_state": {**_ALWAYS, "paths": list},
}
_OPTIONAL: Final = {"nonce": bytes}
_ENVELOPE_OPTIONAL: Final = {"sender_pubkey": bytes, "sender_sig": bytes, "sender_delegation": list}


def parse(body: bytes) -> Envelope:
    try:
        value = cbor.decode_foreign(body, _LIMITS)
    except cbor.CborRefused as refused:
        raise RequestRefused("cbor", expected="one CBOR value", got=str(refused)) from None
    if isinstance(value, cbor.Tag):
        value = value.value  # type: ignore[assignment]  # what is under the tag came from the decoder too
    outer = _map(value, "envelope", {"content": dict}, _ENVELOPE_OPTIONAL)
    content = outer["content"]
    kind = content.get("request_type")
    if not isinstance(kind, str) or kind not in _FIELDS:
        raise RequestRefused("request_type", expected="call, query or read_state", got=repr(kind)[:40])
    delegations = outer.get("sender_delegation") or []
    return Envelope(
        _map(content, "content", _FIELDS[kind], _OPTIONAL),
        outer.get("sender_pubkey"),
        outer.get("sender_sig"),
        tuple(_map(each, "delegation", {"delegation": dict, "signature": bytes}, {}) for each in delegations),
    )


def _map(value: Any, what: str, needed: Mapping[str, type], optional: Mapping[str, type]) -> dict[str, Any]:
    """A map with these fields of these types, an optional one possibly null, and no others."""
    if not isinstance(value, dict):
        raise RequestRefused(what, expected="a map", got=type(value).__name__)
    found = {name: item for name, item in value.items() if item is not None or name not in optional}
    for name in found:
        if name not in needed and name not in optional:
            known = ", ".join((*needed, *optional))
            raise RequestRefused(f"{what}.field", expected=f"one of {known}", got=repr(name)[:60])
    for name, of in {**needed, **{name: of for name, of in optional.items() if name in found}}.items():
        item = found.get(name)
        if type(item) is not of:
            raise RequestRefused(f"{what}.{name}", expected=of.__name__, got=type(item).__name__)
    return found


def authenticate(envelope: Envelope, now_ns: int) -> Request:
    content = envelope.content
    expiry, sender = content["ingress_expiry"], content["sender"]
    if not now_ns < expiry <= now_ns + EXPIRY_NS_MAX:
        raise RequestRefused("ingress_expiry", expected=f"within {EXPIRY_NS_MAX} ns of {now_ns}", got=expiry)
    if len(content.get("nonce") or b"") > NONCE_BYTES_MAX:
        raise RequestRefused("nonce", expected=f"at most {NONCE_BYTES_MAX} bytes", got=len(content["nonce"]))
    for name in ("sender", "canister_id"):
        if len(content.get(name, b"")) > PRINCIPAL_BYTES_MAX:
            raise RequestRefused(name, expected=f"at most {PRINCIPAL_BYTES_MAX} bytes", got=len(content[name]))
    paths = _paths(content)
    request_id = representation_independent_hash(content)
    if sender == ANONYMOUS:
        if envelope.public_key is not None or envelope.signature is not None or envelope.delegations:
            raise RequestRefused("signature", expected="none of an anonymous sender", got="a key or a signature")
    else:
        _check_signer(envelope, request_id, now_ns)
    return Request(
        request_id,
        content["request_type"],
        sender,
        expiry,
        content.get("canister_id", b""),
        content.get("method_name", ""),
        content.get("arg", b""),
        paths,
    )


def _paths(content: Mapping[str, Any]) -> tuple[tuple[bytes, ...], ...]:
    paths = content.get("paths", [])
    if len(paths) > PATHS_MAX:
        raise RequestRefused("paths", expected=f"at most {PATHS_MAX}", got=len(paths))
    for path in paths:
        if type(path) is not list or len(path) > LABELS_MAX or any(type(label) is not bytes for label in path):
            raise RequestRefused("path", expected=f"at most {LABELS_MAX} labels, all bytes", got=outline(path))
    return tuple(tuple(path) for path in paths)


def _check_signer(envelope: Envelope, request_id: bytes, now_ns: int) -> None:
    if envelope.public_key is None or envelope.signature is None:
        raise RequestRefused("signature", expected="a key and a signature of the sender", got="none")
    sender = envelope.content["sender"]
    if sha224(envelope.public_key).digest() + b"\x02" != sender:
        raise RequestRefused("sender", expected="the principal of the key", got=sender.hex())
    if len(envelope.delegations) > DELEGATIONS_MAX:
        raise RequestRefused("delegations", expected=f"at most {DELEGATIONS_MAX}", got=len(envelope.delegations))
    signer, seen = envelope.public_key, {envelope.public_key}
    for signed in envelope.delegations:
        delegation = _map(signed["delegation"], "delegation", {"pubkey": bytes, "expiration": int}, {"targets": list})
        if delegation["expiration"] <= now_ns:
            raise RequestRefused("delegation.expiration", expected=f"after {now_ns}", got=delegation["expiration"])
        _check_targets(delegation.get("targets"), envelope.content)
        _check_signature(
            signer,
            domain("ic-request-auth-delegation") + representation_independent_hash(delegation),
            signed["signature"],
            "delegation.signature",
        )
        signer = delegation["pubkey"]
        if signer in seen:
            raise RequestRefused(
                "delegation.pubkey",
                expected="a key that is new in the chain",
                got=f"{shown(signer)} for the second time",
            )
        seen.add(signer)
    _check_signature(signer, domain("ic-request") + request_id, envelope.signature, "signature")


def _check_targets(targets: list[Any] | None, content: Mapping[str, Any]) -> None:
    if targets is None:
        return
    if len(targets) > TARGETS_MAX or any(type(each) is not bytes for each in targets):
        raise RequestRefused("delegation.targets", expected=f"at most {TARGETS_MAX} principals", got=outline(targets))
    if "canister_id" in content and content["canister_id"] not in targets:
        raise RequestRefused("delegation.targets", expected="the canister among them", got=content["canister_id"].hex())


def _check_signature(der: bytes, message: bytes, signature: bytes, what: str) -> None:
    for prefix, name in _OTHER_KEYS.items():
        if prefix in der[:24]:
            raise RequestRefused("key", expected="Ed25519, P-256 or secp256k1", got=name)
    try:
        key = load_der_public_key(der)
    except (ValueError, UnsupportedAlgorithm):
        raise RequestRefused("key", expected="a public key in DER", got=shown(der)) from None
    try:
        match key:
            case ed25519.Ed25519PublicKey():
                key.verify(signature, message)
            case ec.EllipticCurvePublicKey() if isinstance(key.curve, ec.SECP256R1 | ec.SECP256K1):
                key.verify(_ecdsa(signature, what), message, ec.ECDSA(hashes.SHA256()))
            case _:
                raise RequestRefused("key", expected="Ed25519, P-256 or secp256k1", got=type(key).__name__)
    except InvalidSignature:
        raise RequestRefused(what, expected="a signature of the key", got="a signature that does not verify") from None


def _ecdsa(signature: bytes, what: str) -> bytes:
    """The two numbers of 32 bytes, as the library wants them."""
    if len(signature) != 64:
        raise RequestRefused(what, expected="64 bytes", got=len(signature))
    return utils.encode_dss_signature(int.from_bytes(signature[:32], "big"), int.from_bytes(signature[32:], "big"))
