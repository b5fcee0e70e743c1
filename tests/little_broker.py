"""A broker for tests over the simulated TEE: a store in a folder, a clock that stands still, and a cell to ask it."""

from __future__ import annotations

import os
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Protocol

from cryptography.hazmat.primitives.asymmetric import ec

from attestation.broker.administration import add_release, add_secret
from attestation.broker.broker import Broker, Keys, load_keys, new_keys
from attestation.broker.log import audit
from attestation.broker.session import Release
from attestation.broker.store import Store
from attestation.broker.wrapping import SoftwareWrapping
from attestation.decision_log.codec import Entry
from attestation.decision_log.words import ReleaseState
from attestation.evidence.keyset import Keyset
from attestation.rcar.evidence import attestation_of, bound_members
from attestation.rcar.grant import GrantContext, checked_context
from attestation.rcar.jwe import RecipientKey, Sealed, open_sealed
from attestation.rcar.messages import AuthRequest, Challenge, parse_token
from attestation.tee.produce import release
from devnet.broker import judging, measurement_of
from devnet.tee import SimulatedTee, endorsed
from foundation.secrecy import Secret
from tests.little_tee import AT, CONFIG, KEYSET, snp_tee

MODEL_ROOT = b"\x30" * 32
MODEL_KEY = "default/model-key/little"
SERVICE_KEY = "default/service-key/little"
PLAIN = "default/resource/greeting"
SECRETS = {
    MODEL_KEY: b"the key of the little model packs",
    SERVICE_KEY: b"service key bytes 0123456789abcdef",
    PLAIN: b"for any client of the protocol ok",
}
KEK = Secret(b"\x77" * 32)
NOW_NS = int(AT.timestamp()) * 10**9


class MakeBroker(Protocol):
    """`LittleBroker.make`, its store closed when the test is over."""

    def __call__(
        self, folder: Path, tee: SimulatedTee | None = None, url: str | None = None, *, approved: bool = True
    ) -> LittleBroker: ...


@dataclass
class LittleBroker:
    """`now_ns` is its clock: a test moves it by hand."""

    store: Store
    keys: Keys
    broker: Broker
    wrapping: SoftwareWrapping
    now_ns: int = NOW_NS
    secrets: dict[str, bytes] = field(default_factory=lambda: dict(SECRETS))

    @classmethod
    def make(
        cls, folder: Path, tee: SimulatedTee | None = None, url: str | None = None, *, approved: bool = True
    ) -> LittleBroker:
        tee = tee or snp_tee()
        store = Store.open(url or f"sqlite:///{folder}/broker.db", create=True)
        wrapping = SoftwareWrapping(KEK)
        keys = new_keys(store, wrapping, NOW_NS)
        if approved:
            made = Release("little-1", measurement_of(tee), MODEL_ROOT, CONFIG, ReleaseState.APPROVED)
            add_release(store, made, NOW_NS)
        for resource, raw in SECRETS.items():
            root = MODEL_ROOT if "model-key" in resource else b""
            add_secret(store, wrapping, resource, Secret(raw), model_root=root, now_ns=NOW_NS)
        return cls.over(store, keys, tee, wrapping)

    @classmethod
    def over(cls, store: Store, keys: Keys, tee: SimulatedTee, wrapping: SoftwareWrapping) -> LittleBroker:
        made: list[LittleBroker] = []
        broker = Broker(
            store,
            keys,
            wrapping,
            judging(tee),
            clock_ns=lambda: made[0].now_ns if made else NOW_NS,
            randomness=os.urandom,
        )
        made.append(cls(store, keys, broker, wrapping))
        return made[0]

    def again(self, tee: SimulatedTee | None = None) -> LittleBroker:
        """After a restart: other policy and references perhaps, the same store."""
        return LittleBroker.over(self.store, load_keys(self.store, self.wrapping), tee or snp_tee(), self.wrapping)

    @property
    def public(self) -> bytes:
        return self.keys.public

    def entries(self) -> list[Entry]:
        with self.store.change() as change:
            return [Entry.parse(raw) for raw, _ in change.entries()]

    def last(self) -> Entry:
        return self.entries()[-1]

    def audit(self) -> int:
        return audit(self.store, self.keys.public).position


@dataclass
class LittleCell:
    """One attempt of a cell: its key, and what it was told so far. Fields may be bent between the steps."""

    tee: SimulatedTee
    keyset: Keyset = KEYSET
    config: bytes = CONFIG
    curve: ec.EllipticCurve = field(default_factory=ec.SECP256R1)

    def __post_init__(self) -> None:
        self.private = ec.generate_private_key(self.curve)
        self.key = RecipientKey.of(self.private.public_key())
        self.cookie: str | None = None
        self.nonce = ""

    def ask(self, broker: Broker, *, committed: bool = True) -> None:
        request = AuthRequest(self.tee.kind, self.key.thumbprint if committed else None).encode()
        reply = broker.auth(request)
        self.cookie, self.nonce = reply.cookie, Challenge.parse(reply.body).nonce

    def attestation(self) -> bytes:
        bundle = release(
            self.tee,
            self.nonce,
            self.key.jwk(),
            self.keyset,
            measured_config=self.config,
            other_evidence=bound_members(self.keyset),
        )
        return attestation_of(endorsed(bundle, self.tee)).encode()

    def attest(self, broker: Broker, raw: bytes | None = None) -> str:
        reply = broker.attest(self.cookie, self.attestation() if raw is None else raw)
        self.cookie = reply.cookie
        return parse_token(reply.body)

    def fetch(self, broker: Broker, resource: str) -> Sealed:
        return Sealed.parse(broker.resource(self.cookie, resource).body)

    def admitted(self, broker: Broker) -> LittleCell:
        self.ask(broker)
        self.attest(broker)
        return self

    def open(self, sealed: Sealed, broker: bytes) -> tuple[GrantContext, bytes]:
        return checked_context(sealed, broker), open_sealed(sealed, self.private).reveal()


def bent(tee: SimulatedTee, **fields: object) -> SimulatedTee:
    """The same machine, reporting something else of itself."""
    return replace(tee, fields=replace(tee.fields, **fields))  # type: ignore[arg-type, type-var]
