"""What an audit reads of the measured configuration: whom the cell believed, and what it charged.

The cell's own reader is the appliance's, and stricter; here the whole file is bound by its digest, and what the audit
compares is taken out of it. Nothing here says that a cell ran under this file: its evidence does.
"""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final, Self, TypeVar

from attestation.auditor.errors import AuditRefused
from attestation.consensus.principal import from_text
from attestation.consensus.refusals import ConsensusRefused
from attestation.consensus.roots import parse_root_key
from attestation.receipts.errors import PriceRefused
from attestation.receipts.price import FREE, PriceSchedule
from foundation.digests import DIGEST_BYTES, tagged_sha256
from foundation.document import undecoded
from foundation.refusal import shown
from foundation.sized import Digest32
from measurements.digests import ConfigurationDigest, ModelRoot, ProfileDigest, TemplateDigest, TokenizerDigest

T = TypeVar("T")

CONFIG_TAG: Final = "anchorhold/measured-config/v1"
CONFIG_BYTES_MAX: Final = 64 << 10


@dataclass(frozen=True, slots=True)
class Measured:
    """`broker` and `model_root` are None in a cell that was measured to serve without a broker."""

    digest: ConfigurationDigest
    gateway: bytes
    root_key: bytes
    engine: str
    profile: ProfileDigest | None
    broker: bytes | None
    model_root: ModelRoot | None
    tokenizer: TokenizerDigest | None
    template: TemplateDigest | None
    price: PriceSchedule
    plaintext: bool
    names: frozenset[str]  # what a request may call the model by

    @classmethod
    def parse(cls, raw: bytes) -> Self:
        """Raises `AuditRefused`, nothing else."""
        if len(raw) > CONFIG_BYTES_MAX:
            raise AuditRefused("config", expected=f"at most {CONFIG_BYTES_MAX} bytes", got=len(raw))
        try:
            fields = tomllib.loads(raw.decode())
        except (ValueError, RecursionError) as reason:
            raise AuditRefused("config", expected="TOML in UTF-8", got=undecoded(reason)) from None
        release = _table(fields, "release")
        model = _table(release or {}, "model") or {}
        try:
            price = _table(fields, "price")
            return cls(
                digest=ConfigurationDigest(tagged_sha256(CONFIG_TAG, raw)),
                gateway=from_text(_text(fields, "gateway")),
                root_key=parse_root_key(_hex(fields, "root_key")),
                engine=_text(fields, "engine"),
                profile=_named(ProfileDigest, fields, "profile"),
                broker=_digest(release, "broker_key") if release is not None else None,
                model_root=_named(ModelRoot, release or {}, "model_root"),
                tokenizer=_named(TokenizerDigest, model, "tokenizer"),
                template=_named(TemplateDigest, model, "template"),
                price=FREE if price is None else PriceSchedule.of(price),
                plaintext=_plaintext(fields, release),
                names=_names(fields, model),
            )
        except (ConsensusRefused, PriceRefused) as refusal:
            raise AuditRefused("config", expected=refusal.expected, got=refusal.got) from None


def _plaintext(fields: Mapping[str, object], release: Mapping[str, object] | None) -> bool:
    """answer.md A2."""
    stated = fields.get("plaintext")
    return stated if isinstance(stated, bool) else release is None or "service" not in release


def _names(fields: Mapping[str, object], model: Mapping[str, object]) -> frozenset[str]:
    """answer.md A25."""
    own = _text(model, "name") if "name" in model else _text(fields, "engine")
    return frozenset({own, *(_table(fields, "models") or {})})


def _table(fields: Mapping[str, object], name: str) -> Mapping[str, object] | None:
    value = fields.get(name)
    if value is not None and not isinstance(value, dict):
        raise AuditRefused("config", expected=f"a table {name}", got=type(value).__name__)
    return value


def _text(fields: Mapping[str, object], name: str) -> str:
    value = fields.get(name)
    if not isinstance(value, str):
        raise AuditRefused("config", expected=f"a text {name}", got=type(value).__name__)
    return value


def _hex(fields: Mapping[str, object], name: str) -> bytes:
    try:
        return bytes.fromhex(_text(fields, name))
    except ValueError:
        raise AuditRefused("config", expected=f"{name} in hexadecimal", got=shown(_text(fields, name))) from None


def _named(kind: Callable[[Digest32], T], fields: Mapping[str, object], name: str) -> T | None:
    found = _digest(fields, name)
    return None if found is None else kind(found)


def _digest(fields: Mapping[str, object], name: str) -> Digest32 | None:
    if name not in fields:
        return None
    raw = _hex(fields, name)
    if len(raw) != DIGEST_BYTES:
        raise AuditRefused("config", expected=f"{name} of {DIGEST_BYTES} bytes", got=len(raw))
    return Digest32(raw)
