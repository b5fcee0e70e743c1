"""The operator's file: where the broker listens, what it keeps and by what it judges.

    listen = "127.0.0.1:8443"
    store = "sqlite:///broker.db"              # or postgresql://user@host/name
    wrapping = "file:kek"                      # or env:NAME, or pkcs11:... (attestation/broker/wrapping.py)
    certificate = "tls.pem"
    key = "tls.key"
    policy = "strict"                          # a built-in policy, or a file
    references = "references.toml"             # machines of the fleet; images come from the approved releases

Paths are relative to the file. `requests_per_second` (of one address, default 2), `simulated_root` and
`[endorsements]` (ask, ark, crls, tdx) may be added.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Self

from cryptography.hazmat.primitives.serialization import Encoding

from attestation.broker.broker import Judging
from attestation.broker.errors import StoreRefused
from attestation.broker.rates import Rate
from attestation.broker.server import ServerLimits
from attestation.broker.session import Endorsements
from attestation.evidence.auxblob import TableEntry
from attestation.evidence.certificates import read_certificate
from attestation.policy import document
from measurements.reference import ReferenceValues

_TEXTS: Final = ("listen", "store", "wrapping", "certificate", "key", "policy", "references")
_SQLITE: Final = "sqlite:///"
FILE_BYTES_MAX: Final = 4 << 20
DEFAULT_PER_SECOND: Final = 2
PER_SECOND_MAX: Final = 100_000


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

    @classmethod
    def read(cls, path: Path) -> Self:
        """Raises a `Refused` that names the field, or `OSError` for a file that is not there."""
        try:
            fields = tomllib.loads(_bytes(path).decode("utf-8"))
        except ValueError:
            raise StoreRefused("config.toml", expected="TOML in UTF-8", got="something else") from None
        unknown = fields.keys() - {*_TEXTS, "simulated_root", "endorsements", "requests_per_second"}
        missing = [name for name in _TEXTS if not isinstance(fields.get(name), str)]
        if unknown or missing:
            raise StoreRefused(
                "config.fields",
                expected=f"the texts {', '.join(_TEXTS)}",
                got=f"without {missing}, with {sorted(unknown)}",
            )
        folder = path.resolve().parent
        host, _, port = fields["listen"].rpartition(":")
        if not host or not port.isdecimal() or int(port) > 0xFFFF:
            raise StoreRefused("config.listen", expected="host:port", got=fields["listen"][:64])
        return cls(
            folder,
            host.strip("[]"),
            int(port),
            _url(folder, fields["store"]),
            _wrapping(folder, fields["wrapping"]),
            folder / fields["certificate"],
            folder / fields["key"],
            _judging(folder, fields),
            _limits(fields.get("requests_per_second", DEFAULT_PER_SECOND)),
        )


def _limits(per_second: object) -> ServerLimits:
    if type(per_second) is not int or not 1 <= per_second <= PER_SECOND_MAX:
        raise StoreRefused("config.requests_per_second", expected=f"1 to {PER_SECOND_MAX}", got=per_second)
    return ServerLimits(each=Rate(10 * per_second, per_second), all_together=Rate(100 * per_second, 25 * per_second))


def _judging(folder: Path, fields: Mapping[str, Any]) -> Judging:
    named = fields["policy"]
    if named in document.builtin_names():
        policy = document.builtin(named)
    else:
        policy = document.parse(_bytes(folder / named), called=named)
    root = fields.get("simulated_root")
    der = None if root is None else read_certificate(_bytes(folder / root)).public_bytes(Encoding.DER)
    references = ReferenceValues.parse(_bytes(folder / fields["references"]))
    return Judging(policy, references, _endorsements(folder, fields.get("endorsements", {})), der)


def _endorsements(folder: Path, fields: object) -> Endorsements:
    if not isinstance(fields, dict) or fields.keys() - {"ask", "ark", "crls", "tdx"}:
        raise StoreRefused("config.endorsements", expected="ask, ark, crls and tdx", got="others")
    certificates = {
        entry: read_certificate(_bytes(folder / fields[name])).public_bytes(Encoding.DER)
        for name, entry in (("ask", TableEntry.ASK), ("ark", TableEntry.ARK))
        if name in fields
    }
    crls = tuple(_bytes(folder / name) for name in fields.get("crls", []))
    return Endorsements(certificates, crls, _bytes(folder / fields["tdx"]) if "tdx" in fields else b"")


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
