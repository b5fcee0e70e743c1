"""The tables of the broker's store, and the steps from each version of them to the next."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from attestation.broker.errors import StoreRefused
from attestation.broker.session import ReleaseState
from attestation.rcar.grant import NO_ADOPTION
from measurements.release.heights import LEASE

_meta: Final = sa.MetaData()
_big = sa.BigInteger()
SESSIONS = sa.Table(
    "sessions",
    _meta,
    sa.Column("id", sa.String(64), primary_key=True),
    sa.Column("tee", sa.String(32), nullable=False),
    sa.Column("nonce", sa.LargeBinary(32), nullable=False, unique=True),
    sa.Column("commitment", sa.LargeBinary(32)),
    sa.Column("expires_ns", _big, nullable=False, index=True),
    sa.Column("phase", sa.String(16), nullable=False),
    sa.Column("admission", sa.LargeBinary),
)
GRANTS = sa.Table(
    "grants",
    _meta,
    sa.Column("session", sa.String(64), primary_key=True),
    sa.Column("resource", sa.String(200), primary_key=True),
    sa.Column("position", _big, nullable=False, unique=True),
)
_releases_1 = sa.Table(  # until version 2, which knows decisions, and releases of many measurements
    "releases",
    _meta,
    sa.Column("name", sa.String(128), primary_key=True),
    sa.Column("measurement", sa.LargeBinary(240), nullable=False, unique=True),
    sa.Column("model_root", sa.LargeBinary(32), nullable=False),
    sa.Column("measured_config", sa.LargeBinary(32), nullable=False),
    sa.Column("state", sa.String(16), nullable=False),
)
REVOCATIONS = sa.Table(
    "revocations",
    _meta,
    sa.Column("kind", sa.String(16), primary_key=True),
    sa.Column("value", sa.LargeBinary(240), primary_key=True),
)
SECRETS = sa.Table(
    "secrets",
    _meta,
    sa.Column("resource", sa.String(200), primary_key=True),
    sa.Column("version", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("purpose", sa.String(16), nullable=False),
    sa.Column("model_root", sa.LargeBinary(32), nullable=False),
    sa.Column("wrapped", sa.LargeBinary),  # null once it was revoked: the bytes are gone
)
KEYS = sa.Table(
    "keys",
    _meta,
    sa.Column("name", sa.String(32), primary_key=True),
    sa.Column("public", sa.LargeBinary, nullable=False),
    sa.Column("wrapped", sa.LargeBinary, nullable=False),
)
LOG = sa.Table(
    "log",
    _meta,
    sa.Column("position", _big, primary_key=True, autoincrement=False),
    sa.Column("entry", sa.LargeBinary, nullable=False),
    sa.Column("signature", sa.LargeBinary(64), nullable=False),
)
HEAD = sa.Table(
    "head",
    _meta,
    sa.Column("one", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("position", _big, nullable=False),
    sa.Column("digest", sa.LargeBinary(32), nullable=False),
)
_schema = sa.Table("schema_version", _meta, sa.Column("version", sa.Integer, primary_key=True, autoincrement=False))

_second: Final = sa.MetaData()
_images = sa.Table(
    "images",
    _second,
    sa.Column("measurement", sa.LargeBinary(240), primary_key=True),
    sa.Column("name", sa.String(128), nullable=False, index=True),
    sa.Column("model_root", sa.LargeBinary(32), nullable=False),
    sa.Column("measured_config", sa.LargeBinary(32), nullable=False),
    sa.Column("state", sa.String(16), nullable=False),
    sa.Column("adoption", sa.LargeBinary(32), nullable=False),
    sa.Column("until_height", _big, nullable=False),
    sa.Column("minimum_tcb", sa.LargeBinary, nullable=False),  # empty: none of its own
)
GOVERNANCE = sa.Table(
    "governance",
    _second,
    sa.Column("one", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("authority", sa.LargeBinary, nullable=False),
)
DECISIONS = sa.Table(
    "decisions",
    _second,
    sa.Column("position", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("digest", sa.LargeBinary(32), nullable=False, unique=True),
    sa.Column("decision", sa.LargeBinary, nullable=False),
)
LEAST_VERSIONS = sa.Table(
    "least_versions",
    _second,
    sa.Column("resource", sa.String(200), primary_key=True),
    sa.Column("version", _big, nullable=False),
)
HEIGHT = sa.Table(
    "gateway_height",
    _second,
    sa.Column("one", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("height", _big, nullable=False),
)


def _to_second(connection: Connection) -> None:
    _second.create_all(connection)
    for row in connection.execute(_releases_1.select()).all():
        connection.execute(
            _images.insert().values(
                name=row.name,
                measurement=row.measurement,
                model_root=row.model_root,
                measured_config=row.measured_config,
                state=row.state,
                adoption=NO_ADOPTION,
                until_height=0,
                minimum_tcb=b"",
            )
        )
    _releases_1.drop(connection)


_third: Final = sa.MetaData()
RELEASES = sa.Table(  # as `images`, with the blocks that a release is for instead of a height of grace
    "releases_by_height",
    _third,
    sa.Column("measurement", sa.LargeBinary(240), primary_key=True),
    sa.Column("name", sa.String(128), nullable=False, index=True),
    sa.Column("model_root", sa.LargeBinary(32), nullable=False),
    sa.Column("measured_config", sa.LargeBinary(32), nullable=False),
    sa.Column("state", sa.String(16), nullable=False),
    sa.Column("adoption", sa.LargeBinary(32), nullable=False),
    sa.Column("minimum_tcb", sa.LargeBinary, nullable=False),  # empty: none of its own
    sa.Column("first_height", _big, nullable=False),
    sa.Column("last_height", _big),  # null: no end yet
    sa.Column("lease", _big, nullable=False),
)
GRANTED = sa.Table(  # every block that a release was ever granted
    "granted_heights",
    _third,
    sa.Column("release", sa.String(128), primary_key=True),
    sa.Column("adoption", sa.LargeBinary(32), primary_key=True),
    sa.Column("first_height", _big, nullable=False),
    sa.Column("last_height", _big, nullable=False),
)


def last_height_of(state: str, until_height: int) -> int | None:
    """The last block of a release that was superseded when there were heights of grace; None of any other."""
    return max(until_height - 1, 1) if state == ReleaseState.SUPERSEDED.value else None


def _to_third(connection: Connection) -> None:
    _third.create_all(connection)
    for row in connection.execute(_images.select()).all():
        connection.execute(
            RELEASES.insert().values(
                measurement=row.measurement,
                name=row.name,
                model_root=row.model_root,
                measured_config=row.measured_config,
                state=row.state,
                adoption=row.adoption,
                minimum_tcb=row.minimum_tcb,
                first_height=1,
                last_height=last_height_of(row.state, row.until_height),
                lease=LEASE,
            )
        )
    _images.drop(connection)


# Each takes the schema from its index to the next. A released one is never edited: a change is a new one behind it.
MIGRATIONS: Final[tuple[Callable[[Connection], None], ...]] = (
    lambda connection: _meta.create_all(connection),  # noqa: PLW0108  # the tables of `_meta`, as of version 1
    _to_second,
    _to_third,
)


def migrate(connection: Connection, *, create: bool) -> None:
    has_schema = sa.inspect(connection).has_table("schema_version")
    version = connection.execute(sa.select(_schema.c.version)).scalar_one() if has_schema else 0
    if version == len(MIGRATIONS):
        return
    if version > len(MIGRATIONS) or not create:
        raise StoreRefused("store.schema", expected=f"version {len(MIGRATIONS)}", got=version)
    for step in MIGRATIONS[version:]:
        step(connection)
    connection.execute(_schema.delete())
    connection.execute(_schema.insert().values(version=len(MIGRATIONS)))
