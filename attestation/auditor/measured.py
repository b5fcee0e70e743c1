"""What an audit reads of the measured configuration: whom the cell believed, and what it charged.

The cell's own reader is the appliance's, and stricter; here the whole file is bound by its digest, and what the audit
compares is taken out of it. Nothing here says that a cell ran under this file: its evidence does.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Self

from attestation.auditor.errors import AuditRefused
from attestation.consensus.principal import from_text
from attestation.consensus.refusals import ConsensusRefused
from attestation.consensus.roots import parse_root_key
from attestation.receipts.errors import PriceRefused
from attestation.receipts.price import FREE, PriceSchedule
from foundation.digests import tagged_sha256
from foundation.document import ANY_TEXT, SPACED_HEX, Fields, toml_table

CONFIG_TAG: Final = "anchorhold/measured-config/v1"
CONFIG_BYTES_MAX: Final = 64 << 10


@dataclass(frozen=True, slots=True)
class Measured:
    """`broker` and `model_root` are None in a cell that was measured to serve without a broker."""

    digest: bytes
    gateway: bytes
    root_key: bytes
    engine: str
    profile: bytes | None
    broker: bytes | None
    model_root: bytes | None
    tokenizer: bytes | None
    template: bytes | None
    price: PriceSchedule
    plaintext: bool
    names: frozenset[str]  # what a request may call the model by

    @classmethod
    def parse(cls, raw: bytes) -> Self:
        """Raises `AuditRefused`, nothing else."""
        fields = Fields(toml_table(raw, "config", _refuse, bytes_max=CONFIG_BYTES_MAX), "config", _refuse, ANY_TEXT)
        release = fields.optional("release", fields.fields)
        model = None if release is None else release.optional("model", release.fields)
        engine = _text(fields, "engine")
        own = None if model is None else model.optional("name", lambda name: _text(model, name))
        price, aliases = (
            fields.optional(name, lambda name: fields.named(name, CONFIG_BYTES_MAX, ANY_TEXT))
            for name in ("price", "models")
        )
        plaintext = fields.optional("plaintext", fields.flag)  # answer.md A2
        try:
            return cls(
                digest=tagged_sha256(CONFIG_TAG, raw),
                gateway=from_text(_text(fields, "gateway")),
                root_key=parse_root_key(fields.blob("root_key", CONFIG_BYTES_MAX, SPACED_HEX)),
                engine=engine,
                profile=_digest(fields, "profile"),
                broker=_digest(release, "broker_key"),
                model_root=_digest(release, "model_root"),
                tokenizer=_digest(model, "tokenizer"),
                template=_digest(model, "template"),
                price=FREE if price is None else PriceSchedule.of(price),
                plaintext=(release is None or "service" not in release) if plaintext is None else plaintext,
                names=frozenset({engine if own is None else own, *(aliases or ())}),  # answer.md A25
            )
        except (ConsensusRefused, PriceRefused) as refusal:
            raise AuditRefused("config", expected=refusal.expected, got=refusal.got) from None


def _refuse(code: str, /, *, expected: str, got: object) -> AuditRefused:
    return AuditRefused("config", expected=f"{expected} as {code}", got=got)


def _text(fields: Fields, name: str) -> str:
    return fields.text(name, CONFIG_BYTES_MAX, empty=True)


def _digest(fields: Fields | None, name: str) -> bytes | None:
    return None if fields is None else fields.optional(name, lambda name: fields.digest(name, form=SPACED_HEX))
