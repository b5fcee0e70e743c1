"""The broker without its socket: the session core joined to the store, the keys and what is at rest.

Three questions come in as bytes, three answers go out as bytes; every refusal is a `Refused`. The order inside is the
point (docs/spec/key-release.md R20). For an attestation: claim the session, judge, write decision and entry in one
transaction, and only then say so. For a resource: check, write, and only then unwrap and seal.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_der_private_key,
)

from attestation.broker.errors import BrokerRefused, Busy, Denied, StoreRefused, Unauthenticated, UnknownResource
from attestation.broker.session import (
    GRANTS_PER_SESSION_MAX,
    TOKEN_SECONDS,
    Admission,
    Endorsements,
    GrantTerms,
    Judged,
    OfferedSecret,
    Phase,
    Session,
    check_grant,
    grant,
    judge,
    open_session,
    refuse_lax,
)
from attestation.broker.store import Change, SecretRow, Store
from attestation.broker.wrapping import Wrapping
from attestation.decision_log.codec import Entry
from attestation.decision_log.events import (
    Admitted,
    Began,
    Blocks,
    Cell,
    EvidenceDenied,
    Granted,
    ResourceDenied,
    Started,
)
from attestation.policy.document import Policy
from attestation.policy.ear import Verifier, ear_claims, sign_ear
from attestation.rcar.errors import RcarRefused
from attestation.rcar.grant import GrantHeights, GrantPurpose, header_of, sign_challenge, signed
from attestation.rcar.jwe import seal
from attestation.rcar.messages import (
    NONCE_BYTES,
    Attestation,
    AuthRequest,
    Challenge,
    encode_token,
    nonce_text,
    request_digest,
)
from foundation.refusal import Refused, listed, shown
from foundation.secrecy import owned
from measurements.reference import ReferenceValues
from measurements.release.heights import Heights

SESSIONS_OPEN_MAX: Final = 10_000
SESSION_ID_BYTES: Final = 32
SIGNING_KEY, TOKEN_KEY = "broker", "token"
BUILD: Final = "anchorhold broker 0.1.0"
RESOURCE: Final = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}(?:/[a-z0-9][a-z0-9._-]{0,63}){2}")
_PURPOSES: Final = {purpose.value: purpose for purpose in GrantPurpose}
_NS: Final = 1_000_000_000


@dataclass(frozen=True, slots=True)
class Keys:
    """The broker's own: one signs challenges, grants and the log, the other tokens."""

    signing: Ed25519PrivateKey = field(repr=False)
    token: ec.EllipticCurvePrivateKey = field(repr=False)

    @property
    def public(self) -> bytes:
        """What a cell has measured into it."""
        return self.signing.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)


@dataclass(frozen=True, slots=True)
class Judging:
    """By what evidence is judged, from the operator's files."""

    policy: Policy
    references: ReferenceValues
    endorsements: Endorsements = field(default_factory=Endorsements)
    simulated_root: bytes | None = None


@dataclass(frozen=True, slots=True)
class Reply:
    """A body, and the session cookie to set if there is a new one."""

    body: bytes
    cookie: str | None = None


class Broker:
    """Thread-safe as its store is: each question is a few transactions of its own."""

    def __init__(
        self,
        store: Store,
        keys: Keys,
        wrapping: Wrapping,
        judging: Judging,
        *,
        clock_ns: Callable[[], int],
        randomness: Callable[[int], bytes],
    ) -> None:
        refuse_lax(judging.policy)
        self._store, self._keys, self._wrapping, self._judging = store, keys, wrapping, judging
        self._clock_ns, self._randomness = clock_ns, randomness
        store.signer = keys.signing
        with store.change() as change:
            change.append(Started(judging.policy.id), clock_ns())

    def auth(self, body: bytes) -> Reply:
        """A challenge for a request. Raises `RcarRefused` for what is no request, `Busy` for too many."""
        request = AuthRequest.parse(body)
        nonce = self._randomness(NONCE_BYTES)
        session_id = self._randomness(SESSION_ID_BYTES).hex()
        now_ns = self._clock_ns()
        session = open_session(request, session_id=session_id, nonce=nonce, now_ns=now_ns)
        try:
            with self._store.change() as change:
                change.add_session(session, now_ns, SESSIONS_OPEN_MAX)
        except StoreRefused as refusal:
            raise Busy(refusal.code, expected=refusal.expected, got=refusal.got) from refusal
        signature = sign_challenge(self._keys.signing, nonce, request_digest(body))
        return Reply(Challenge(nonce_text(nonce), signature).encode(), session_id)

    def attest(self, session_id: str | None, body: bytes) -> Reply:
        """A token, or `Denied`. Either way this session never judges again."""
        session = self._claimed(session_id)
        now_ns = self._clock_ns()
        try:
            judged = judge(session, Attestation.parse(body), self._terms(), now_ns)
        except (Denied, RcarRefused) as refusal:
            self._write_denial(session, refusal, now_ns)
            raise _as_denied(refusal) from refusal
        except Exception as reason:  # a fault of ours in judging is a denial like any other, and is in the log
            fault = Denied("internal", expected="a judgement", got=type(reason).__name__)
            self._write_denial(session, fault, now_ns)
            raise fault from reason
        new_id = self._randomness(SESSION_ID_BYTES).hex()
        expires_ns = now_ns + TOKEN_SECONDS * _NS
        with self._store.change() as change:
            change.append(Admitted(_cell(session, judged.admission)), now_ns)
            change.admit(session.id, new_id, judged.admission.encode(), expires_ns)
        return Reply(encode_token(self._token(session, judged, now_ns, expires_ns)), new_id)

    def resource(self, session_id: str | None, path: str) -> Reply:
        """A sealed resource, once each; `Denied` and `UnknownResource` are in the log as well."""
        purpose = _purpose(path)
        now_ns = self._clock_ns()
        with self._store.change() as change:
            change.head()  # held to the end: what is checked now still holds when the entry is written
            session, admission = _admitted(change, session_id, now_ns)
            refusal, secret, heights = self._check(change, session, admission, path, purpose=purpose)
            if refusal is None and secret is not None and secret.wrapped is not None:
                granted = Granted(_cell(session, admission), path, secret.version, purpose, _blocks(heights))
                entry = change.append(granted, now_ns)
                change.add_grant(session.id, path, entry.position)
                if heights is not None:
                    change.set_granted(admission.release, admission.adoption, Heights(heights.first, heights.last))
            else:
                refusal = refusal or UnknownResource(
                    "resource.unknown", expected="a resource of this broker", got="none"
                )
                change.append(ResourceDenied(_cell(session, admission), path, purpose, refusal.code), now_ns)
                entry = None
        if entry is None or secret is None or secret.wrapped is None:
            raise refusal or UnknownResource("resource.unknown", expected="a resource", got="none")
        return Reply(self._sealed(admission, secret, secret.wrapped, entry, heights=heights))

    # -- inside

    def _claimed(self, session_id: str | None) -> Session:
        with self._store.change() as change:
            found = change.session(session_id) if session_id else None
            if found is None:
                raise Unauthenticated(
                    "session.unknown",
                    expected="the cookie of an open session",
                    got="a cookie of no session" if session_id else "no cookie",
                )
            if not change.claim(found[0].id):
                raise Unauthenticated(
                    "session.used", expected="a session nobody attested for", got="a session that was attested for"
                )
            return found[0]

    def _terms(self) -> GrantTerms:
        with self._store.change() as change:
            return self._terms_in(change)

    def _terms_in(self, change: Change) -> GrantTerms:
        held = self._judging
        return GrantTerms(
            held.policy,
            held.references,
            change.releases(),
            change.revocations(),
            held.endorsements,
            held.simulated_root,
            change.height(),
            change.least_versions(),
            change.granted_heights(),
        )

    def _write_denial(self, session: Session, refusal: Refused, now_ns: int) -> None:
        denied = EvidenceDenied(session.tee, session.nonce, refusal.code, self._judging.policy.id)
        with self._store.change() as change:
            change.append(denied, now_ns)
            change.deny(session.id)

    def _check(
        self, change: Change, session: Session, admission: Admission, path: str, *, purpose: GrantPurpose
    ) -> tuple[BrokerRefused | None, SecretRow | None, GrantHeights | None]:
        secret = change.secret(path)
        if secret is None or secret.wrapped is None:
            return None, None, None
        granted = change.granted(session.id)
        try:
            if path in granted:  # R13: a token opens a resource once
                raise Denied(
                    "grant.repeated", expected="each resource once for a session", got=f"{path} for the second time"
                )
            if len(granted) >= GRANTS_PER_SESSION_MAX:
                raise Denied(
                    "grant.too-many",
                    expected=f"{GRANTS_PER_SESSION_MAX} for a session",
                    got=f"{len(granted)} before this",
                )
            heights = check_grant(admission, _offer(secret), purpose, self._terms_in(change))
        except Denied as refusal:
            return refusal, None, None
        return None, secret, heights

    def _sealed(
        self, admission: Admission, secret: SecretRow, wrapped: bytes, entry: Entry, *, heights: GrantHeights | None
    ) -> bytes:
        context = grant(admission, _offer(secret), heights, decision=entry.digest, position=entry.position)
        opened = self._wrapping.unwrap(wrapped, secret.name)
        sealed = seal(opened, admission.key, header_of(context), self._randomness)
        return signed(sealed, self._keys.signing).encode()

    def _token(self, session: Session, judged: Judged, now_ns: int, expires_ns: int) -> str:
        admission = judged.admission
        facts = {"measurement": admission.measurement.hex(), "release": admission.release}
        claims = ear_claims(
            {"cpu0": (judged.appraisal, facts)},
            verifier=Verifier("anchorhold", BUILD),
            issued_at=now_ns // _NS,
            expires_at=expires_ns // _NS,
        )
        claims["tee-pubkey"] = admission.key.jwk()
        claims["nonce"] = nonce_text(session.nonce)
        return sign_ear(claims, self._keys.token)


def new_keys(store: Store, wrapping: Wrapping, now_ns: int) -> Keys:
    """The broker's keys, made, wrapped into an empty store, and the log begun with them."""
    keys = Keys(Ed25519PrivateKey.generate(), ec.generate_private_key(ec.SECP256R1()))
    with store.change() as change:
        if change.keys():
            raise StoreRefused("store.keys", expected="a store without keys", got=f"keys {listed(change.keys())}")
        for name, private in ((SIGNING_KEY, keys.signing), (TOKEN_KEY, keys.token)):
            raw = owned(private.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption()))
            public = private.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
            change.add_key(name, public, wrapping.wrap(raw, name.encode()))
        change.begin_log(keys.public)
    store.signer = keys.signing
    with store.change() as change:
        change.append(Began(keys.public), now_ns)
    return keys


def load_keys(store: Store, wrapping: Wrapping) -> Keys:
    """The broker's keys out of its store. Raises `BrokerRefused`."""
    with store.change() as change:
        held: Mapping[str, tuple[bytes, bytes]] = change.keys()
    if held.keys() != {SIGNING_KEY, TOKEN_KEY}:
        raise StoreRefused("store.keys", expected="the broker's two keys", got=len(held))
    signing, token = (
        load_der_private_key(wrapping.unwrap(held[name][1], name.encode()).lend(), None)
        for name in (SIGNING_KEY, TOKEN_KEY)
    )
    if not isinstance(signing, Ed25519PrivateKey) or not isinstance(token, ec.EllipticCurvePrivateKey):
        raise StoreRefused(
            "store.keys",
            expected="an Ed25519 and a P-256 key",
            got=f"{type(signing).__name__} and {type(token).__name__}",
        )
    return Keys(signing, token)


def _admitted(change: Change, session_id: str | None, now_ns: int) -> tuple[Session, Admission]:
    found = change.session(session_id) if session_id else None
    if found is None or found[0].phase is not Phase.ADMITTED or found[1] is None:
        raise Unauthenticated(
            "session.not-admitted",
            expected="a session that attested",
            got="no session" if found is None else f"a session that is {found[0].phase.name.lower()}",
        )
    if now_ns >= found[0].expires_ns:
        raise Unauthenticated(
            "session.expired",
            expected="a request in time",
            got=f"{(now_ns - found[0].expires_ns) // 1_000_000} ms after its end",
        )
    return found[0], Admission.parse(found[1])


def _purpose(path: str) -> GrantPurpose:
    if not RESOURCE.fullmatch(path):
        raise UnknownResource("resource.path", expected="repository/type/tag", got=shown(path))
    return _PURPOSES.get(path.split("/")[1], GrantPurpose.PLAIN)


def _offer(secret: SecretRow) -> OfferedSecret:
    return OfferedSecret(secret.resource, secret.version, secret.purpose, secret.model_root)


def _blocks(heights: GrantHeights | None) -> Blocks | None:
    return None if heights is None else Blocks(heights.first, heights.last)


def _cell(session: Session, admission: Admission) -> Cell:
    return Cell(
        tee=session.tee,
        nonce=session.nonce,
        release=admission.release,
        measurement=admission.measurement,
        chip=admission.chip or b"",
        keyset=admission.keyset or b"",
        key=admission.key.thumbprint,
        policy=admission.policy_id,
        adoption=admission.adoption,
    )


def _as_denied(refusal: Refused) -> Denied:
    if isinstance(refusal, Denied):
        return refusal
    return Denied(refusal.code, expected=refusal.expected, got=refusal.got)
