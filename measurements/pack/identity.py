"""Which model a pack holds, and whether it is the one that was asked for.

    check_expected(opened.identity, Expected(model_root=..., tokenizer=...))

Names everything that differs, plainest first: a wrong name or tokenizer before the model root, which differs with
anything. `None` in an `Expected` means "not compared"; the model root always is.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Self

from measurements.digests import ModelConfigDigest, ModelRoot, TemplateDigest, TokenizerDigest
from measurements.pack.errors import PackIdentityRefused
from measurements.pack.header import SignedHeader


@dataclass(frozen=True, slots=True)
class Identity:
    """What a pack says it holds; proven once it is opened, save for name, family and quantization."""

    name: str
    family: str
    quantization: str
    parameters: int
    template: TemplateDigest
    tokenizer: TokenizerDigest
    config: ModelConfigDigest
    signer: bytes
    model_root: ModelRoot

    @classmethod
    def of(cls, signed: SignedHeader) -> Self:
        claims, measured = signed.header.card.claims, signed.header.card.measured
        return cls(
            claims.name,
            claims.family,
            claims.quantization,
            measured.parameters,
            measured.template,
            measured.tokenizer,
            measured.config,
            signed.signer,
            signed.header.model_root,
        )

    def shown(self) -> dict[str, str | int]:
        """For people and for JSON: digests in hexadecimal."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        return {name: value.hex() if isinstance(value, bytes) else value for name, value in values.items()}


@dataclass(frozen=True, slots=True, kw_only=True)
class Expected:
    """What a cell was measured to run."""

    model_root: ModelRoot
    name: str | None = None
    family: str | None = None
    quantization: str | None = None
    parameters: int | None = None
    template: TemplateDigest | None = None
    tokenizer: TokenizerDigest | None = None
    config: ModelConfigDigest | None = None
    signer: bytes | None = None


def check_expected(identity: Identity, expected: Expected) -> None:
    """pack.md P15. Raises `PackIdentityRefused`, which lists every difference."""
    differences = []
    for field in fields(identity):
        wanted, came = getattr(expected, field.name), getattr(identity, field.name)
        if wanted is not None and wanted != came:
            differences.append((field.name.replace("_", "-"), _shown(wanted), _shown(came)))
    if differences:
        raise PackIdentityRefused(tuple(differences))


def _shown(value: object) -> str:
    return value.hex() if isinstance(value, bytes) else str(value)
