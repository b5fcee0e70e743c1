"""The tables of the broker's store, and the version of them that a store is of."""

from __future__ import annotations

from typing import Final

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from attestation.broker.errors import StoreRefused

VERSION: Final = 3  # raised with every change of a table below

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
GOVERNANCE = sa.Table(
    "governance",
    _meta,
    sa.Column("one", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("authority", sa.LargeBinary, nullable=False),
)
DECISIONS = sa.Table(
    "decisions",
    _meta,
    sa.Column("position", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("digest", sa.LargeBinary(32), nullable=False, unique=True),
    sa.Column("decision", sa.LargeBinary, nullable=False),
)
LEAST_VERSIONS = sa.Table(
    "least_versions",
    _meta,
    sa.Column("resource", sa.String(200), primary_key=True),
    sa.Column("version", _big, nullable=False),
)
HEIGHT = sa.Table(
    "gateway_height",
    _meta,
    sa.Column("one", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("height", _big, nullable=False),
)
RELEASES = sa.Table(
    "releases_by_height",
    _meta,
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
    _meta,
    sa.Column("release", sa.String(128), primary_key=True),
    sa.Column("adoption", sa.LargeBinary(32), primary_key=True),
    sa.Column("first_height", _big, nullable=False),
    sa.Column("last_height", _big, nullable=False),
)
_schema = sa.Table("schema_version", _meta, sa.Column("version", sa.Integer, primary_key=True, autoincrement=False))


def prepare(connection: Connection, *, create: bool) -> None:
    """Makes the tables of a new store, if `create`. Raises `StoreRefused` for a store of any version but `VERSION`."""
    has_schema = sa.inspect(connection).has_table("schema_version")
    version = connection.execute(sa.select(_schema.c.version)).scalar_one() if has_schema else None
    if version == VERSION:
        return
    if version is not None or not create:
        raise StoreRefused(
            "store.schema",
            expected=f"a store of version {VERSION}",
            got="no store" if version is None else f"a store of version {version}",
        )
    _meta.create_all(connection)
    connection.execute(_schema.insert().values(version=VERSION))
