"""The model card: what a model says of itself, in a form a machine compares.

An author writes `card.json`:

    {"name": "tiny-1", "family": "llama", "license": "Apache-2.0", "quantization": "none",
     "sampling": {"temperature_micro": 700000, "top_p_micro": 950000, "top_k": 40}}

Sealing adds what it can measure: parameters and element types from the tensors, digests of configuration, tokenizer
and template. Opening measures them again. What the author claims (the licence, how it was quantized) is signed, not
checked.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final, Self

from foundation import cbor
from foundation.digests import DIGEST_BYTES, tagged_sha256
from foundation.document import Fields, json_object
from foundation.refusal import shape
from foundation.sized import Digest32
from measurements.digests import ModelConfigDigest, TemplateDigest, TokenizerDigest
from measurements.pack.errors import PackMalformed
from measurements.pack.safetensors import BITS

CARD_BYTES_MAX: Final = 64 << 10
FILES_TAG: Final = "anchorhold/model-files/v1"
SAMPLING_MAX: Final[Mapping[str, int]] = MappingProxyType(
    {"temperature_micro": 100_000_000, "top_p_micro": 1_000_000, "top_k": 1 << 20, "max_tokens": 1 << 32}
)

_WORD: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9 ._+:()/-]*")
_SAMPLING: Final = re.compile("|".join(SAMPLING_MAX))
_CLAIMS: Final = ("name", "family", "license", "quantization")


def files_digest(files: Mapping[str, bytes]) -> Digest32:
    """One digest for the files of one kind, from the SHA-256 of each by name (pack.md P8)."""
    listed: list[cbor.Encodable] = [[name, files[name]] for name in sorted(files)]
    return tagged_sha256(FILES_TAG, cbor.encode(listed))


@dataclass(frozen=True, slots=True)
class Claims:
    """What the author says."""

    name: str
    family: str
    license: str
    quantization: str
    sampling: Mapping[str, int]

    @classmethod
    def parse(cls, raw: bytes) -> Self:
        """From `card.json`. Raises `PackMalformed` alone."""
        return cls.of(json_object(raw, "pack", PackMalformed, bytes_max=CARD_BYTES_MAX, called="card.json"))

    @classmethod
    def of(cls, members: Mapping[str, object]) -> Self:
        fields = Fields(members, "pack.card", PackMalformed)
        fields.only(*_CLAIMS, "sampling")
        name, family, licence, quantization = (fields.text(name, 96, _WORD) for name in _CLAIMS)
        return cls(name, family, licence, quantization, _sampling(fields))


@dataclass(frozen=True, slots=True)
class Measured:
    """What sealing and opening compute from the files themselves."""

    parameters: int
    dtypes: tuple[str, ...]
    config: ModelConfigDigest
    tokenizer: TokenizerDigest
    template: TemplateDigest

    @classmethod
    def of(cls, members: Mapping[str, object]) -> Self:
        fields = Fields(members, "pack.card", PackMalformed)
        fields.only("parameters", "dtypes", "config", "tokenizer", "template")
        parameters, dtypes = fields.uint("parameters"), fields.texts("dtypes", len(BITS), 16, least=0)
        if any(dtype not in BITS for dtype in dtypes) or list(dtypes) != sorted(set(dtypes)):
            expected = f"some of {', '.join(sorted(BITS))}, each once, in order"
            raise fields.refused("dtypes", expected, ", ".join(dtypes))
        return cls(
            parameters,
            dtypes,
            config=ModelConfigDigest(digest("card.config", members["config"])),
            tokenizer=TokenizerDigest(digest("card.tokenizer", members["tokenizer"])),
            template=TemplateDigest(digest("card.template", members["template"])),
        )


@dataclass(frozen=True, slots=True)
class Card:
    """The card as it stands in a pack, signed."""

    claims: Claims
    measured: Measured

    @classmethod
    def of(cls, value: object) -> Self:
        """From the decoded header. Raises `PackMalformed` alone."""
        if not isinstance(value, dict) or set(value) != {"claims", "measured"}:
            raise PackMalformed("pack.card", expected="claims and measured", got=type(value).__name__)
        claims, measured = value["claims"], value["measured"]
        if not isinstance(claims, dict) or not isinstance(measured, dict):
            raise PackMalformed("pack.card", expected="two maps", got=f"{shape(claims)} and {shape(measured)}")
        return cls(Claims.of(claims), Measured.of(measured))

    def plain(self) -> dict[str, dict[str, cbor.Encodable]]:
        """As it is encoded."""
        claims, measured = self.claims, self.measured
        return {
            "claims": {
                "name": claims.name,
                "family": claims.family,
                "license": claims.license,
                "quantization": claims.quantization,
                "sampling": dict(claims.sampling),
            },
            "measured": {
                "parameters": measured.parameters,
                "dtypes": list(measured.dtypes),
                "config": measured.config,
                "tokenizer": measured.tokenizer,
                "template": measured.template,
            },
        }


def digest(what: str, value: object) -> Digest32:
    """A digest's bytes, sized."""
    if not isinstance(value, bytes) or len(value) != DIGEST_BYTES:
        raise PackMalformed(f"pack.{what}", expected=f"{DIGEST_BYTES} bytes", got=type(value).__name__)
    return Digest32(value)


def _sampling(fields: Fields) -> Mapping[str, int]:
    named = fields.named("sampling", len(SAMPLING_MAX), _SAMPLING)
    numbers = Fields(named, "pack.card.sampling", PackMalformed)
    return MappingProxyType({name: numbers.uint(name, SAMPLING_MAX[name]) for name in named})
