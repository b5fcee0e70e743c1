"""How the cell gets its key: a handshake with the broker, carried by a host that is not trusted.

    host -> cell   [0]                                where do you stand?
                   [1]                                begin (again)
                   [2, number, status, body bstr]     the broker's answer to message `number`
    cell -> host   [0, state, number, failure]        where I stand; `failure` says why the last attempt ended
                   [1, number, method, path, body]    carry this to the broker
                   [2, code]                          that was no message, or not the one expected; nothing changed

The cell has no network and no clock. What makes a broker the right one is its key, measured into the cell: it signed
the challenge over this very request, and the grant over this very nonce, key and resource. Whatever else happens, a
cut, a wrong broker, a grant replayed or meant for another cell, ends the attempt with a code, and the next attempt
starts with a new key of its own, so nothing of the old one can be used again (docs/spec/key-release.md R25 to R30).

Pure but for two arguments: something that makes keys, and something that asks the TEE.
"""

from __future__ import annotations

import hmac
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Final, TypeAlias

from cryptography.hazmat.primitives.asymmetric import ec

from appliance.message_parts import message_parts
from attestation.errors import EvidenceRefused
from attestation.evidence.keyset import Keyset
from attestation.evidence.kinds import TeeKind
from attestation.rcar.errors import GrantRefused, RcarRefused
from attestation.rcar.evidence import attestation_of, bound_members
from attestation.rcar.grant import GrantContext, GrantHeights, GrantPurpose, check_challenge, checked_context
from attestation.rcar.jwe import RecipientKey, Sealed, open_sealed
from attestation.rcar.messages import AuthRequest, Challenge, nonce_bytes, parse_token, request_digest
from attestation.sealed.errors import KeysRefused
from attestation.sealed.ring import Ring
from attestation.tee.produce import release
from attestation.tee.tee import Tee
from foundation import cbor
from foundation.refusal import StagedRefused, outline, shown
from foundation.secrecy import Secret
from measurements.digests import ConfigurationDigest, ModelRoot

LIMITS: Final = cbor.Limits(bytes_max=1 << 20, depth_max=1, items_max=8)
AUTH, ATTEST, RESOURCE = "auth", "attest", "resource/"
OK: Final = 200


class ReleaseRefused(StagedRefused):
    """An item that is none of the messages, or not the one this state waits for."""

    stage = "release"


class State(Enum):
    """Where the cell stands. Every failure leads back to the first; the last is kept."""

    NEEDS_KEY = "needs-key"
    AWAITS_CHALLENGE = "awaits-challenge"
    AWAITS_TOKEN = "awaits-token"  # noqa: S105
    AWAITS_GRANT = "awaits-grant"
    AWAITS_SERVICE = "awaits-service"
    HAS_KEY = "has-key"


# -- the messages


@dataclass(frozen=True, slots=True)
class StateQuery:
    pass


@dataclass(frozen=True, slots=True)
class Begin:
    pass


@dataclass(frozen=True, slots=True)
class Brought:
    number: int
    status: int
    body: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class Standing:
    state: State
    number: int
    failure: str | None


@dataclass(frozen=True, slots=True)
class Carry:
    number: int
    method: str
    path: str
    body: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class Declined:
    code: str


Ask: TypeAlias = StateQuery | Begin | Brought
Say: TypeAlias = Standing | Carry | Declined


def encode_ask(ask: Ask) -> bytes:
    match ask:
        case StateQuery():
            return cbor.encode([0])
        case Begin():
            return cbor.encode([1])
        case Brought(number, status, body):
            return cbor.encode([2, number, status, body])


def decode_ask(raw: bytes) -> Ask:
    """Raises `ReleaseRefused`, nothing else."""
    match message_parts(raw, LIMITS, ReleaseRefused):
        case [0]:
            return StateQuery()
        case [1]:
            return Begin()
        case [2, int(number), int(status), bytes(body)]:
            return Brought(number, status, body)
        case value:
            raise ReleaseRefused("format", expected="where, begin or an answer", got=outline(value))


def encode_say(say: Say) -> bytes:
    match say:
        case Standing(state, number, failure):
            return cbor.encode([0, state.value, number, failure])
        case Carry(number, method, path, body):
            return cbor.encode([1, number, method, path, body])
        case Declined(code):
            return cbor.encode([2, code])


def decode_say(raw: bytes) -> Say:
    """For the host. Raises `ReleaseRefused`, nothing else."""
    match message_parts(raw, LIMITS, ReleaseRefused):
        case [0, str(state), int(number), str() | None as failure] if state in {each.value for each in State}:
            return Standing(State(state), number, failure)
        case [1, int(number), str(method), str(path), bytes(body)]:
            return Carry(number, method, path, body)
        case [2, str(code)]:
            return Declined(code)
        case value:
            raise ReleaseRefused("format", expected="something a cell says", got=outline(value))


# -- what is done


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is measured into the cell: whom to take keys from, which, and for what model."""

    broker: bytes
    resource: str
    purpose: GrantPurpose
    model_root: ModelRoot
    service: str | None = None


@dataclass(frozen=True, slots=True)
class Held:
    """What the newest grant says: for which release, for which blocks; and the service keys, where the cell wants some.

    The model key is not in it: it is taken once (`Releaser.take_key`), and gone.
    """

    context: GrantContext
    heights: GrantHeights
    ring: Ring | None = None

    @property
    def renew(self) -> int:
        """From this height on a renewal may be asked for."""
        return self.heights.renew if self.ring is None else min(self.heights.renew, self.ring.renew)


class Attester:
    """Asks the TEE for evidence over a challenge. What it needs is fixed for one boot."""

    def __init__(self, tee: Tee, keyset: Keyset, measured_config: ConfigurationDigest, event_log: bytes = b"") -> None:
        self._tee, self._keyset, self._config, self._event_log = tee, keyset, measured_config, event_log

    @property
    def kind(self) -> TeeKind:
        return self._tee.kind

    def attest(self, nonce: str, key: Mapping[str, str]) -> bytes:
        """The attestation message. Raises `EvidenceRefused` if the machine gives no quote."""
        bundle = release(
            self._tee,
            nonce,
            key,
            self._keyset,
            measured_config=self._config,
            event_log=self._event_log,
            other_evidence=bound_members(self._keyset),
        )
        return attestation_of(bundle).encode()


@dataclass(slots=True)
class _Attempt:
    """One try: its key lives as long as it does, in this process's memory and nowhere else."""

    private: ec.EllipticCurvePrivateKey = field(repr=False)
    request: bytes
    nonce: bytes = b""
    key: Secret | None = None  # the model key, while the service keys are still to come
    held: Held | None = None

    @property
    def recipient(self) -> RecipientKey:
        return RecipientKey.of(self.private.public_key())


def _later(context: GrantContext, before: Held | None) -> GrantHeights:
    """R34: the blocks of this grant; behind another it is for the same release, from the same block on, no shorter."""
    heights = context.heights
    if heights is None:
        raise GrantRefused("grant.heights", expected="the blocks that it is for", got="none")
    if before is None:
        return heights
    if (context.release, context.adoption) != (before.context.release, before.context.adoption):
        raise GrantRefused(
            "grant.release",
            expected=f"release {before.context.release}",
            got=f"release {context.release} of decision {shown(context.adoption)}",
        )
    if heights.first != before.heights.first or heights.last < before.heights.last:
        raise GrantRefused(
            "grant.heights",
            expected=f"blocks {before.heights.first} to {before.heights.last} or later",
            got=f"{heights.first} to {heights.last}",
        )
    return heights


def new_private_key() -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP256R1())


class Releaser:
    """The state of the handshake; `respond` is its only step."""

    def __init__(
        self, wanted: Wanted, attester: Attester, new_key: Callable[[], ec.EllipticCurvePrivateKey] = new_private_key
    ) -> None:
        self._wanted: Final = wanted
        self._attester: Final = attester
        self._new_key: Final = new_key
        self._state = State.NEEDS_KEY
        self._number = 0
        self._failure: str | None = None
        self._attempt: _Attempt | None = None
        self._key: Secret | None = None
        self.held: Held | None = None

    @property
    def standing(self) -> Standing:
        return Standing(self._state, self._number, self._failure)

    def take_key(self) -> Secret | None:
        """The model key, to whoever opens the model with it: once, and None from then on."""
        key, self._key = self._key, None
        return key

    def respond(self, ask: Ask, *, height: int = 0) -> Say:
        """`height` is where the cell stands: it decides whether more may be asked for."""
        match ask:
            case StateQuery():
                return self.standing
            case Begin():
                return self._begin(height)
            case Brought(number, status, body):
                return self._brought(number, status, body)

    def _begin(self, height: int) -> Say:
        if self.held is not None and height < self.held.renew:
            return self.standing  # R30: what is held is kept; nobody makes the cell ask again
        private = self._new_key()  # R27: never the key of an attempt before
        thumbprint = RecipientKey.of(private.public_key()).thumbprint
        request = AuthRequest(self._attester.kind, thumbprint).encode()
        self._attempt, self._failure = _Attempt(private, request), None
        return self._carry(State.AWAITS_CHALLENGE, "POST", AUTH, request)

    def _brought(self, number: int, status: int, body: bytes) -> Say:
        attempt = self._attempt
        if attempt is None or number != self._number:  # R28: late, early or replayed: it changes nothing
            return Declined("release.number")
        if status != OK:
            return self._fail(f"broker.{status}" if 100 <= status <= 599 else "broker.unreachable")
        try:
            match self._state:
                case State.AWAITS_CHALLENGE:
                    return self._challenged(attempt, body)
                case State.AWAITS_TOKEN:
                    parse_token(body)  # says that the broker admitted us; it is of no other use in here
                    attempt.held = self.held  # R32: a renewal is for what the cell still has a use for
                    renews_ring = self.held is not None and self.held.ring is not None
                    return self._fetch_service() if renews_ring else self._fetch_model()
                case State.AWAITS_GRANT:
                    return self._granted(attempt, body)
                case State.AWAITS_SERVICE:
                    return self._granted_service(attempt, body)
                case State.NEEDS_KEY | State.HAS_KEY:
                    return Declined("release.number")
        except (RcarRefused, EvidenceRefused, KeysRefused) as refusal:
            return self._fail(refusal.code)

    def _challenged(self, attempt: _Attempt, body: bytes) -> Say:
        challenge = Challenge.parse(body)
        attempt.nonce = nonce_bytes(challenge.nonce)
        check_challenge(self._wanted.broker, challenge.signature, attempt.nonce, request_digest(attempt.request))
        raw = self._attester.attest(challenge.nonce, attempt.recipient.jwk())
        return self._carry(State.AWAITS_TOKEN, "POST", ATTEST, raw)

    def _fetch_model(self) -> Say:
        return self._carry(State.AWAITS_GRANT, "GET", f"{RESOURCE}{self._wanted.resource}", b"")

    def _fetch_service(self) -> Say:
        return self._carry(State.AWAITS_SERVICE, "GET", f"{RESOURCE}{self._wanted.service}", b"")

    def _granted(self, attempt: _Attempt, body: bytes) -> Say:
        key, context = self._opened(attempt, body, self._wanted.resource, self._wanted.purpose)
        held = Held(context, _later(context, attempt.held))
        if attempt.held is None:  # in a renewal the model is open already: the key is of no more use
            attempt.key = key
        attempt.held = held
        return self._has(attempt, held) if self._wanted.service is None else self._fetch_service()

    def _granted_service(self, attempt: _Attempt, body: bytes) -> Say:
        """R31: in the same session, so for the same cell; R32: never at odds with what is held."""
        raw, context = self._opened(attempt, body, self._wanted.service or "", GrantPurpose.SERVICE)
        ring = Ring.parse(raw)
        heights = _later(context, attempt.held)
        if attempt.held is not None and attempt.held.ring is not None:
            ring.check_agrees(attempt.held.ring)
        return self._has(attempt, Held(context, heights, ring))

    def _has(self, attempt: _Attempt, held: Held) -> Say:
        self.held = held
        if attempt.key is not None:
            self._key = attempt.key
        self._state, self._attempt = State.HAS_KEY, None
        return self.standing

    def _opened(
        self, attempt: _Attempt, body: bytes, resource: str, purpose: GrantPurpose
    ) -> tuple[Secret, GrantContext]:
        sealed = Sealed.parse(body)
        context = checked_context(sealed, self._wanted.broker)
        self._check(context, attempt, resource, purpose)
        return open_sealed(sealed, attempt.private), context

    def _check(self, context: GrantContext, attempt: _Attempt, resource: str, purpose: GrantPurpose) -> None:
        """R29: signed by our broker is not enough: it must be this grant, for this cell, now."""
        if not hmac.compare_digest(context.nonce, attempt.nonce):
            raise GrantRefused("grant.nonce", expected="the nonce of this attempt", got="a nonce that does not match")
        if not hmac.compare_digest(context.key, attempt.recipient.thumbprint):
            raise GrantRefused("grant.key", expected="the key of this attempt", got=context.key.hex())
        if context.resource != resource:
            raise GrantRefused("grant.resource", expected=resource, got=shown(context.resource))
        if context.purpose is not purpose:
            raise GrantRefused("grant.purpose", expected=purpose.value, got=context.purpose.value)
        if context.model_root != self._wanted.model_root:
            raise GrantRefused(
                "grant.model-root", expected="the model measured into this cell", got=shown(context.model_root)
            )

    def _carry(self, state: State, method: str, path: str, body: bytes) -> Say:
        self._state = state
        self._number += 1
        return Carry(self._number, method, path, body)

    def _fail(self, code: str) -> Say:
        """Back to where the attempt began; a renewal that fails takes nothing away."""
        state = State.NEEDS_KEY if self.held is None else State.HAS_KEY
        self._state, self._attempt, self._failure = state, None, code
        return self.standing
