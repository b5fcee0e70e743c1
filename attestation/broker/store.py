"""What the broker keeps: sessions, grants, releases, decisions, revocations, wrapped secrets, and the log.

SQLite or PostgreSQL:

    store = Store.open("sqlite:////var/lib/broker/broker.db")
    with store.change() as change:          # one transaction: all of it, or none
        change.claim(session_id, now_ns)
        change.append(Granted(...), now_ns)

Whatever is decided and its entry in the log are written in one transaction (docs/spec/key-release.md R20), and whoever
appends holds the head of the log until the end of it, so entries have one order. A reader's word "it is in the log"
means: the transaction is on the disk.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any, Final, cast

import sqlalchemy as sa
from sqlalchemy.engine import Connection, Engine

from attestation.broker.errors import StoreRefused
from attestation.broker.schema import (
    DECISIONS,
    GOVERNANCE,
    GRANTED,
    GRANTS,
    HEAD,
    HEIGHT,
    KEYS,
    LEAST_VERSIONS,
    LOG,
    RELEASES,
    REVOCATIONS,
    SECRETS,
    SESSIONS,
    prepare,
)
from attestation.broker.session import Phase, Release, Session
from attestation.decision_log.chain import Head, genesis, sign
from attestation.decision_log.codec import Entry
from attestation.decision_log.events import Event
from attestation.decision_log.words import ReleaseState, RevocationKind
from attestation.evidence.kinds import TeeKind
from attestation.rcar.grant import NO_ADOPTION, GrantPurpose
from foundation import cbor, private_files
from foundation.ed25519 import Signer
from foundation.refusal import shape
from foundation.sized import digest32
from measurements.digests import ConfigurationDigest, DecisionDigest, ModelRoot
from measurements.launch.measurement import LaunchMeasurement, read_measurement
from measurements.release.heights import Heights
from measurements.release.manifest import MinimumTcb

BUSY_SECONDS: Final = 30
RELEASES_MAX: Final = 4096
REVOCATIONS_MAX: Final = 65_536


@dataclass(frozen=True, slots=True)
class SecretRow:
    resource: str
    version: int
    purpose: GrantPurpose
    model_root: bytes
    wrapped: bytes | None

    @property
    def name(self) -> bytes:
        """What the wrapping authenticates: neither the bytes nor what they are for can be exchanged in the store."""
        return f"{self.resource}@{self.version} {self.purpose.value} {self.model_root.hex()}".encode()


class Store:
    """One database. Any thread may use it; a transaction belongs to the thread that began it."""

    def __init__(self, engine: Engine) -> None:
        self._engine: Final = engine
        self.signer: Signer | None = None  # of the log; without one nothing is appended

    @classmethod
    def open(cls, url: str, *, create: bool = False) -> Store:
        """Raises `StoreRefused` if there is no store of this version; `create` makes one where there is none."""
        engine = _engine(url, create=create)
        store = cls(engine)
        try:
            with engine.begin() as connection:
                prepare(connection, create=create)
        except BaseException as reason:
            engine.dispose()
            if isinstance(reason, sa.exc.SQLAlchemyError):
                raise StoreRefused("store.open", expected="a database", got=type(reason).__name__) from None
            raise
        return store

    @property
    def engine(self) -> Engine:
        return self._engine

    @contextmanager
    def change(self) -> Iterator[Change]:
        with self._engine.begin() as connection:
            yield Change(connection, self.signer)

    def close(self) -> None:
        self._engine.dispose()


class Change:
    """One transaction. What it read still holds when it ends."""

    def __init__(self, connection: Connection, signer: Signer | None) -> None:
        self._connection: Final = connection
        self._signer: Final = signer

    # -- the log

    def head(self) -> Head:
        """The end of the log, and the lock on it: nobody else appends before this transaction is over."""
        row = self._connection.execute(sa.select(HEAD.c.position, HEAD.c.digest).with_for_update()).one()
        return Head(row.position, bytes(row.digest))

    def begin_log(self, public: bytes) -> None:
        start = genesis(public)
        self._connection.execute(HEAD.insert().values(one=1, position=start.position, digest=start.digest))

    def append(self, event: Event, now_ns: int) -> Entry:
        if self._signer is None:
            raise StoreRefused("store.signer", expected="the broker's key", got="none")
        head = self.head()
        entry = Entry(head.position + 1, head.digest, now_ns, event)
        raw, signature = entry.encode(), sign(entry, self._signer)
        self._connection.execute(LOG.insert().values(position=entry.position, entry=raw, signature=signature))
        self._connection.execute(HEAD.update().values(position=entry.position, digest=entry.digest))
        return entry

    def entries(self) -> Iterator[tuple[bytes, bytes]]:
        rows = self._connection.execution_options(yield_per=256).execute(
            sa.select(LOG.c.entry, LOG.c.signature).order_by(LOG.c.position)
        )
        for row in rows:
            yield bytes(row.entry), bytes(row.signature)

    # -- sessions

    def add_session(self, session: Session, now_ns: int, open_max: int) -> None:
        """Also forgets those that are over. Raises `StoreRefused` when too many are open."""
        self._connection.execute(SESSIONS.delete().where(SESSIONS.c.expires_ns <= now_ns))
        count = self._connection.execute(sa.select(sa.func.count()).select_from(SESSIONS)).scalar_one()
        if count >= open_max:
            raise StoreRefused("store.sessions", expected=f"fewer than {open_max} open sessions", got=count)
        self._connection.execute(
            SESSIONS.insert().values(
                id=session.id,
                tee=session.tee.value,
                nonce=session.nonce,
                commitment=session.commitment,
                expires_ns=session.expires_ns,
                phase=session.phase.value,
            )
        )

    def session(self, session_id: str) -> tuple[Session, bytes | None] | None:
        row = self._connection.execute(SESSIONS.select().where(SESSIONS.c.id == session_id)).one_or_none()
        if row is None:
            return None
        commitment = None if row.commitment is None else bytes(row.commitment)
        session = Session(row.id, TeeKind(row.tee), bytes(row.nonce), commitment, row.expires_ns, Phase(row.phase))
        return session, None if row.admission is None else bytes(row.admission)

    def claim(self, session_id: str) -> bool:
        """R6: of all who try to attest for a session, one gets True."""
        return self._moved(session_id, Phase.CHALLENGED, phase=Phase.JUDGING.value)

    def admit(self, session_id: str, new_id: str, admission: bytes, expires_ns: int) -> bool:
        """The session goes on under a new name: the one that was known before the attestation is worth nothing."""
        return self._moved(
            session_id, Phase.JUDGING, phase=Phase.ADMITTED.value, id=new_id, admission=admission, expires_ns=expires_ns
        )

    def deny(self, session_id: str) -> bool:
        return self._moved(session_id, Phase.JUDGING, phase=Phase.DENIED.value)

    def _moved(self, session_id: str, was: Phase, /, **values: Any) -> bool:
        where = (SESSIONS.c.id == session_id) & (SESSIONS.c.phase == was.value)
        return self._connection.execute(SESSIONS.update().where(where).values(**values)).rowcount == 1

    def granted(self, session_id: str) -> list[str]:
        where = GRANTS.c.session == session_id
        return list(self._connection.execute(sa.select(GRANTS.c.resource).where(where)).scalars())

    def add_grant(self, session_id: str, resource: str, position: int) -> None:
        self._connection.execute(GRANTS.insert().values(session=session_id, resource=resource, position=position))

    def grants(self) -> dict[int, tuple[str, str]]:
        rows = self._connection.execute(GRANTS.select())
        return {row.position: (row.session, row.resource) for row in rows}

    # -- releases and revocations

    def releases(self) -> dict[LaunchMeasurement, Release]:
        rows = self._connection.execute(RELEASES.select().limit(RELEASES_MAX + 1)).all()
        found = (
            Release(
                row.name,
                read_measurement(bytes(row.measurement)),
                ModelRoot(digest32(bytes(row.model_root))),
                ConfigurationDigest(digest32(bytes(row.measured_config))),
                ReleaseState(row.state),
                DecisionDigest(digest32(bytes(row.adoption))),
                _tcb(bytes(row.minimum_tcb)),
                Heights(row.first_height, row.last_height),
                row.lease,
            )
            for row in rows
        )
        return {release.measurement: release for release in found}

    def add_release(self, release: Release) -> None:
        held = self.releases()
        same = held.get(release.measurement)
        if same is not None and same.adoption == NO_ADOPTION != release.adoption:
            # What an administrator knew or approved by themselves gives way to what was decided.
            self._connection.execute(RELEASES.delete().where(RELEASES.c.measurement == release.measurement.encode()))
            del held[release.measurement]
        namesakes = {each.adoption for each in held.values() if each.name == release.name}
        # One decision may name many measurements; nothing else shares a name.
        known = bool(namesakes) and (namesakes != {release.adoption} or release.adoption == NO_ADOPTION)
        if release.measurement in held or known:
            raise StoreRefused("store.release", expected="a new name and measurement", got=release.name)
        if len(held) >= RELEASES_MAX:
            raise StoreRefused(
                "store.release", expected=f"at most {RELEASES_MAX} releases", got=f"{len(held) + 1} releases"
            )
        self._connection.execute(
            RELEASES.insert().values(
                name=release.name,
                measurement=release.measurement.encode(),
                model_root=release.model_root,
                measured_config=release.measured_config,
                state=release.state.value,
                adoption=release.adoption,
                minimum_tcb=tcb_bytes(release.minimum_tcb),
                first_height=release.heights.first,
                last_height=release.heights.last,
                lease=release.lease,
            )
        )

    def set_release(self, name: str, state: ReleaseState, last_height: int | None = None) -> None:
        """Every measurement of that name."""
        values: dict[str, Any] = {"state": state.value}
        if last_height is not None:
            values["last_height"] = last_height
        changed = RELEASES.update().where(RELEASES.c.name == name).values(**values)
        if self._connection.execute(changed).rowcount < 1:
            raise StoreRefused("store.release", expected="a known release", got=name)

    def granted_heights(self) -> dict[tuple[str, DecisionDigest], Heights]:
        """By release, and by whose word it is one: every block that it was granted."""
        rows = self._connection.execute(GRANTED.select())
        return {
            (row.release, DecisionDigest(digest32(bytes(row.adoption)))): Heights(row.first_height, row.last_height)
            for row in rows
        }

    def set_granted(self, release: str, adoption: DecisionDigest, heights: Heights) -> None:
        same = (GRANTED.c.release == release) & (GRANTED.c.adoption == adoption)
        self._connection.execute(GRANTED.delete().where(same))
        self._connection.execute(
            GRANTED.insert().values(
                release=release, adoption=adoption, first_height=heights.first, last_height=heights.end
            )
        )

    def revocations(self) -> frozenset[tuple[RevocationKind, bytes]]:
        rows = self._connection.execute(REVOCATIONS.select())
        return frozenset((RevocationKind(row.kind), bytes(row.value)) for row in rows)

    def revoke(self, kind: RevocationKind, value: bytes) -> None:
        held = self.revocations()
        if (kind, value) in held:
            raise StoreRefused("store.revocation", expected="something not revoked yet", got=value.hex()[:32])
        if len(held) >= REVOCATIONS_MAX:
            raise StoreRefused(
                "store.revocation", expected=f"at most {REVOCATIONS_MAX}", got=f"{len(held) + 1} revocations"
            )
        self._connection.execute(REVOCATIONS.insert().values(kind=kind.value, value=value))

    # -- governance

    def authority(self) -> bytes | None:
        """The document that says whose decisions count; None while nobody but the administrator decides."""
        found = self._connection.execute(sa.select(GOVERNANCE.c.authority)).scalar_one_or_none()
        return None if found is None else bytes(found)

    def set_authority(self, document: bytes) -> None:
        if (found := self.authority()) is not None:
            raise StoreRefused(
                "store.authority",
                expected="a broker nobody governs yet",
                got=f"one under authority {sha256(found).hexdigest()}",
            )
        self._connection.execute(GOVERNANCE.insert().values(one=1, authority=document))

    def decisions(self) -> list[tuple[bytes, bytes]]:
        """(digest, decision) from the first on."""
        rows = self._connection.execute(DECISIONS.select().order_by(DECISIONS.c.position))
        return [(bytes(row.digest), bytes(row.decision)) for row in rows]

    def add_decision(self, position: int, digest: bytes, decision: bytes) -> None:
        self._connection.execute(DECISIONS.insert().values(position=position, digest=digest, decision=decision))

    def least_versions(self) -> dict[str, int]:
        return {row.resource: row.version for row in self._connection.execute(LEAST_VERSIONS.select())}

    def set_least_version(self, resource: str, version: int) -> None:
        self._connection.execute(LEAST_VERSIONS.delete().where(LEAST_VERSIONS.c.resource == resource))
        self._connection.execute(LEAST_VERSIONS.insert().values(resource=resource, version=version))

    def height(self) -> int:
        """How far the gateway's chain was shown to go."""
        found = self._connection.execute(sa.select(HEIGHT.c.height)).scalar_one_or_none()
        return 0 if found is None else int(found)

    def set_height(self, height: int) -> None:
        self._connection.execute(HEIGHT.delete())
        self._connection.execute(HEIGHT.insert().values(one=1, height=height))

    # -- secrets and keys

    def secret(self, resource: str) -> SecretRow | None:
        """The newest version of that name, revoked or not."""
        row = self._connection.execute(
            SECRETS.select().where(SECRETS.c.resource == resource).order_by(SECRETS.c.version.desc()).limit(1)
        ).one_or_none()
        return None if row is None else _secret(row)

    def secrets(self) -> list[SecretRow]:
        return [
            _secret(row)
            for row in self._connection.execute(SECRETS.select().order_by(SECRETS.c.resource, SECRETS.c.version))
        ]

    def add_secret(self, row: SecretRow) -> None:
        self._connection.execute(
            SECRETS.insert().values(
                resource=row.resource,
                version=row.version,
                purpose=row.purpose.value,
                model_root=row.model_root,
                wrapped=row.wrapped,
            )
        )

    def forget_secret(self, resource: str) -> int:
        """The wrapped bytes of every version go; the names stay. How many went."""
        where = (SECRETS.c.resource == resource) & SECRETS.c.wrapped.is_not(None)
        return self._connection.execute(SECRETS.update().where(where).values(wrapped=None)).rowcount

    def keys(self) -> Mapping[str, tuple[bytes, bytes]]:
        """Public and wrapped private halves, by name."""
        rows = self._connection.execute(KEYS.select())
        return {row.name: (bytes(row.public), bytes(row.wrapped)) for row in rows}

    def add_key(self, name: str, public: bytes, wrapped: bytes) -> None:
        self._connection.execute(KEYS.insert().values(name=name, public=public, wrapped=wrapped))


def tcb_bytes(minimum: MinimumTcb | None) -> bytes:
    """As it is kept and logged; empty where a release has none of its own."""
    if minimum is None:
        return b""
    return cbor.encode([{name: dict(levels) for name, levels in minimum.snp.items()}, list(minimum.tdx)])


def _tcb(raw: bytes) -> MinimumTcb | None:
    if not raw:
        return None
    match cbor.decode(raw):
        case [dict(snp), list(tdx)]:
            return MinimumTcb(cast("Mapping[str, Mapping[str, int]]", snp), tuple(cast("list[str]", tdx)))
        case _:
            raise StoreRefused("store.release", expected="a minimum that was written here", got=shape(cbor.decode(raw)))


def _secret(row: Any) -> SecretRow:
    wrapped = None if row.wrapped is None else bytes(row.wrapped)
    return SecretRow(row.resource, row.version, GrantPurpose(row.purpose), bytes(row.model_root), wrapped)


def _engine(url: str, *, create: bool) -> Engine:
    try:
        parsed = sa.make_url(url)
    except sa.exc.ArgumentError:
        raise StoreRefused(
            "store.url", expected="sqlite:///PATH or postgresql://...", got=f"a text of {len(url)} characters"
        ) from None
    if parsed.drivername == "sqlite":
        _keep_private(parsed.database, create=create)
        engine = sa.create_engine(parsed, connect_args={"timeout": BUSY_SECONDS})
        sa.event.listen(engine, "connect", _prepare_sqlite)
        sa.event.listen(engine, "begin", lambda connection: connection.exec_driver_sql("BEGIN IMMEDIATE"))
        return engine
    if parsed.drivername == "postgresql":
        return sa.create_engine(parsed.set(drivername="postgresql+psycopg"), pool_pre_ping=True)
    raise StoreRefused("store.url", expected="sqlite or postgresql", got=parsed.drivername)


def _keep_private(database: str | None, *, create: bool) -> None:
    """secrecy.md S14: before SQLite opens it."""
    if database in {None, "", ":memory:"}:
        return
    path = Path(str(database))
    if str(database).startswith("file:"):
        raise StoreRefused("store.url", expected="sqlite:///PATH", got="SQLite's own form of a URI")
    try:
        private_files.database(path, create=create)
    except OSError as reason:
        raise StoreRefused(
            "store.open", expected="a file of ours alone", got=f"{path}: {(reason.strerror or 'no such file').lower()}"
        ) from None


def _prepare_sqlite(connection: Any, _record: object) -> None:
    connection.isolation_level = None  # we say BEGIN ourselves, and the writing kind
    cursor = connection.cursor()
    cursor.execute("PRAGMA journal_mode=WAL")
    cursor.execute("PRAGMA synchronous=FULL")  # a commit that was answered is on the disk
    cursor.execute("PRAGMA secure_delete=ON")  # a revoked secret's wrapped bytes are overwritten
    cursor.close()
