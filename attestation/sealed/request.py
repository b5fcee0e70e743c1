"""A request sealed to a service key: what a client makes and a cell opens, after it was ordered.

    payload = dCBOR [1, suite, key id, expiry, enc || ct]
    info    = dCBOR ["anchorhold/sealed-request/v1", gateway, model root, key id, expiry, suite]
    inside  = length u32be, dCBOR [chat, reply key, mode, caller / null], zeros up to a rung

`expiry` is the last height at which it may be run. The caller inside, if there is one, must be the caller whom the
gateway saw: then nobody else's copy of the payload is run (docs/spec/answer.md A4 to A13).
"""

from __future__ import annotations

import hmac
from dataclasses import dataclass, field
from enum import IntEnum
from typing import ClassVar, Final, Self

from attestation.consensus.blocks import PAYLOAD_BYTES_MAX, PRINCIPAL_BYTES_MAX, UINT_MAX
from attestation.sealed.buckets import request_bytes
from attestation.sealed.errors import SealedRefused
from attestation.sealed.ring import Ring
from attestation.sealed.suites import SealingKey, SuiteId
from foundation import cbor
from foundation.digests import DIGEST_BYTES
from foundation.refusal import outline, shape, shown
from foundation.secrecy import Prompt, Secret
from measurements.digests import ModelRoot

INFO_TAG: Final = "anchorhold/sealed-request/v1"
REPLY_KEY_BYTES: Final = 32
LENGTH_BYTES: Final = 4
_SUITES: Final = frozenset(SuiteId)
_OUTER: Final = cbor.Limits(bytes_max=PAYLOAD_BYTES_MAX, depth_max=1, items_max=8)
_INNER: Final = cbor.Limits(bytes_max=PAYLOAD_BYTES_MAX, depth_max=1, items_max=8)


class Mode(IntEnum):
    """When the frames of the answer come. They are the same frames."""

    WHOLE = 0  # all of them once the answer is complete
    STREAM = 1  # one for every sixteen tokens, as they are made


@dataclass(frozen=True, slots=True)
class Place:
    """For whom a request is sealed: a gateway, and the model that is to answer."""

    gateway: bytes
    model_root: ModelRoot


@dataclass(frozen=True, slots=True)
class SealedRequest:
    """The payload as it is ordered. Anyone can read this much of it."""

    VERSION: ClassVar[int] = 1
    suite: SuiteId
    key_id: bytes
    expiry: int
    sealed: bytes = field(repr=False)

    def info(self, place: Place) -> bytes:
        return cbor.encode([INFO_TAG, place.gateway, place.model_root, self.key_id, self.expiry, int(self.suite)])

    def encode(self) -> bytes:
        return cbor.encode([self.VERSION, int(self.suite), self.key_id, self.expiry, self.sealed])

    @classmethod
    def parse(cls, raw: bytes) -> Self:
        """Raises `SealedRefused`, nothing else: one code for whatever is wrong, as decoders may differ in order."""
        try:
            value = cbor.decode(raw, _OUTER)
        except cbor.CborRefused:
            value = None
        match value:
            case [1, int(suite), bytes(key_id), int(expiry), bytes(sealed)] if (
                suite in _SUITES and len(key_id) == DIGEST_BYTES and 0 <= expiry <= UINT_MAX
            ):
                request = cls(SuiteId(suite), key_id, expiry, sealed)
                if request.encode() == raw:  # true counts as one to Python, not to the encoding
                    return request
            case _:
                pass
        raise SealedRefused("format", expected="[1, suite, key id, expiry, sealed]", got=outline(value))


@dataclass(frozen=True, slots=True)
class Unsealed:
    """What was inside. Nothing of it has a rendering."""

    chat: Prompt
    reply_key: Secret
    mode: Mode
    caller: bytes | None = field(default=None, repr=False)
    room: int = 0  # bytes it was padded to

    def encode(self) -> bytes:
        """With its padding."""
        body = cbor.encode([self.chat.reveal(), self.reply_key.reveal(), int(self.mode), self.caller])
        size = LENGTH_BYTES + len(body)
        return (len(body).to_bytes(LENGTH_BYTES, "big") + body).ljust(request_bytes(size), b"\0")

    @classmethod
    def parse(cls, raw: bytes) -> Self:
        """Raises `SealedRefused`, nothing else."""
        body = _without_padding(raw)
        try:
            value = cbor.decode(body, _INNER)
        except cbor.CborRefused:
            value = None
        match value:
            case [bytes(chat), bytes(reply_key), int(mode), bytes() | None as caller] if (
                len(reply_key) == REPLY_KEY_BYTES
                and mode in _MODES
                and (caller is None or 1 <= len(caller) <= PRINCIPAL_BYTES_MAX)
            ):
                inside = cls(Prompt(chat), Secret(reply_key), Mode(mode), caller, len(raw))
                if inside.encode() == raw:  # true counts as one to Python, not to the encoding
                    return inside
            case _:
                pass
        raise SealedRefused("inside", expected="[chat, reply key, mode, caller]", got=shape(value))


_MODES: Final = frozenset(Mode)


def _without_padding(raw: bytes) -> bytes:
    """A12: what is inside, if the padding is zeros up to the first rung that holds it."""
    end = LENGTH_BYTES + int.from_bytes(raw[:LENGTH_BYTES], "big")
    fits = LENGTH_BYTES < end <= len(raw) and request_bytes(end) == len(raw)
    if not fits or raw.count(0, end) != len(raw) - end:
        raise SealedRefused(
            "padding", expected="the first rung that holds it, and zeros", got=f"{len(raw)} bytes, {end} of them used"
        )
    return raw[LENGTH_BYTES:end]


def seal(inside: Unsealed, key: SealingKey, place: Place, expiry: int) -> bytes:
    """The payload to submit. Fresh every time: sealing draws its own randomness."""
    head = SealedRequest(key.suite, key.id, expiry, b"")
    sealed = key.seal(inside.encode(), head.info(place))
    return SealedRequest(key.suite, key.id, expiry, sealed).encode()


def unseal(payload: bytes, ring: Ring, place: Place, *, height: int, caller: bytes) -> Unsealed:
    """What the cell runs at `height` for `caller`. Raises `SealedRefused`; the order of these checks is A13's."""
    request = SealedRequest.parse(payload)
    key = ring.key(request.key_id, height)
    if key is None or key.suite is not request.suite:
        raise SealedRefused(
            "key",
            expected="a service key of this block",
            got=f"key id {shown(request.key_id)} of suite {request.suite.name}",
        )
    if height > request.expiry:
        raise SealedRefused("expired", expected=f"a height up to {request.expiry}", got=height)
    inside = Unsealed.parse(key.open(request.sealed, request.info(place)))
    if inside.caller is not None and not hmac.compare_digest(inside.caller, caller):
        raise SealedRefused("caller", expected="the caller who sealed it", got="a request that another caller sealed")
    return inside
