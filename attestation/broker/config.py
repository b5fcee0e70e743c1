"""The operator's file: where the broker listens, what it keeps and by what it judges.

    listen = "127.0.0.1:8443"
    store = "sqlite:///broker.db"              # or postgresql://user@host/name
    wrapping = "file:kek"                      # or env:NAME, or pkcs11:... (attestation/broker/wrapping.py)
    certificate = "tls.pem"
    key = "tls.key"
    policy = "strict"                          # a built-in policy, or a file
    references = "references.toml"             # machines of the fleet; images come from the approved releases

Paths are relative to the file. `requests_per_second` (of one address, default 2), `simulated_root`,
`[endorsements]` (ask, ark, crls, tdx) and `[release]` (measured_config, model_root: those of a release that is added by
hand, unless others are named) may be added.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

from cryptography.hazmat.primitives.serialization import Encoding

from attestation.broker.broker import Judging
from attestation.broker.errors import StoreRefused
from attestation.broker.rates import Rate
from attestation.broker.server import ServerLimits
from attestation.broker.session import Endorsements
from attestation.evidence.auxblob import TableEntry
from attestation.evidence.certificates import read_certificate
from attestation.policy import document
from foundation.document import ANY_TEXT, Fields, toml_table
from foundation.refusal import shown
from measurements.digests import ConfigurationDigest, ModelRoot
from measurements.reference import ReferenceValues

_SQLITE: Final = "sqlite:///"
FILE_BYTES_MAX: Final = 4 << 20
DEFAULT_PER_SECOND: Final = 2
PER_SECOND_MAX: Final = 100_000
TEXT_CHARACTERS_MAX: Final = 4096
CRLS_MAX: Final = 1024


@dataclass(frozen=True, slots=True)
class Intended:
    """The configuration and the model that this broker was set up for. It judges nothing: releases do."""

    measured_config: ConfigurationDigest
    model_root: ModelRoot


@dataclass(frozen=True, slots=True)
class Config:
    """Read once, at the start."""

    folder: Path
    host: str
    port: int
    store: str
    wrapping: str
    certificate: Path
    key: Path
    judging: Judging
    limits: ServerLimits
    intended: Intended | None = None

    @classmethod
    def read(cls, path: Path) -> Self:
        """Raises a `Refused` that names the field, or `OSError` for a file that is not there."""
        raw = toml_table(_bytes(path), "config", StoreRefused, bytes_max=FILE_BYTES_MAX)
        fields = Fields(raw, "config", StoreRefused, ANY_TEXT)
        folder = path.resolve().parent
        listen = _text(fields, "listen")
        host, _, port = listen.rpartition(":")
        if not host or not port.isdecimal() or int(port) > 0xFFFF:
            raise fields.refused("listen", "host:port", shown(listen))
        config = cls(
            folder,
            host.strip("[]"),
            int(port),
            _url(folder, _text(fields, "store")),
            _wrapping(folder, _text(fields, "wrapping")),
            folder / _text(fields, "certificate"),
            folder / _text(fields, "key"),
            _judging(folder, fields),
            _limits(fields),
            fields.optional("release", lambda name: _intended(fields.fields(name))),
        )
        fields.done()
        return config


def _text(fields: Fields, name: str) -> str:
    return fields.text(name, TEXT_CHARACTERS_MAX, empty=True)


def _intended(fields: Fields) -> Intended:
    intended = Intended(ConfigurationDigest(fields.digest("measured_config")), ModelRoot(fields.digest("model_root")))
    fields.done()
    return intended


def _limits(fields: Fields) -> ServerLimits:
    stated = fields.optional("requests_per_second", lambda name: fields.uint(name, PER_SECOND_MAX, 1))
    per_second = DEFAULT_PER_SECOND if stated is None else stated
    return ServerLimits(each=Rate(10 * per_second, per_second), all_together=Rate(100 * per_second, 25 * per_second))


def _judging(folder: Path, fields: Fields) -> Judging:
    named = _text(fields, "policy")
    if named in document.builtin_names():
        policy = document.builtin(named)
    else:
        policy = document.parse(_bytes(folder / named), called=named)
    references = ReferenceValues.parse(_bytes(folder / _text(fields, "references")))
    endorsements = fields.optional("endorsements", fields.fields)
    return Judging(
        policy,
        references,
        Endorsements() if endorsements is None else _endorsements(folder, endorsements),
        _certificate(folder, fields, "simulated_root"),
    )


def _endorsements(folder: Path, fields: Fields) -> Endorsements:
    named = {TableEntry.ASK: _certificate(folder, fields, "ask"), TableEntry.ARK: _certificate(folder, fields, "ark")}
    crls = fields.optional("crls", lambda name: fields.texts(name, CRLS_MAX, TEXT_CHARACTERS_MAX, least=0)) or ()
    tdx = fields.optional("tdx", lambda name: _bytes(folder / _text(fields, name))) or b""
    fields.done()
    certificates = {entry: der for entry, der in named.items() if der is not None}
    return Endorsements(certificates, tuple(_bytes(folder / name) for name in crls), tdx)


def _certificate(folder: Path, fields: Fields, name: str) -> bytes | None:
    """The DER of a certificate in a file, if one is named."""
    if name not in fields:
        return None
    return read_certificate(_bytes(folder / _text(fields, name))).public_bytes(Encoding.DER)


def _url(folder: Path, url: str) -> str:
    """A relative SQLite path is relative to the file it is written in."""
    if url.startswith(_SQLITE) and not url.startswith(f"{_SQLITE}/"):
        return f"{_SQLITE}{folder / url.removeprefix(_SQLITE)}"
    return url


def _wrapping(folder: Path, setting: str) -> str:
    scheme, _, rest = setting.partition(":")
    return f"file:{folder / rest}" if scheme == "file" else setting


def _bytes(path: Path) -> bytes:
    with path.open("rb") as file:
        raw = file.read(FILE_BYTES_MAX + 1)
    if len(raw) > FILE_BYTES_MAX:
        raise StoreRefused("config.file", expected=f"at most {FILE_BYTES_MAX} bytes", got=path.name)
    return raw
