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
from measurements.pack.errors import PackMalformed
from measurements.pack.safetensors import BITS
from measurements.pack.strict_json import parse_object

CARD_BYTES_MAX: Final = 64 << 10
FILES_TAG: Final = "anchorhold/model-files/v1"
SAMPLING_MAX: Final[Mapping[str, int]] = MappingProxyType(
    {"temperature_micro": 100_000_000, "top_p_micro": 1_000_000, "top_k": 1 << 20, "max_tokens": 1 << 32}
)

_WORD: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9 ._+:()/-]{0,95}")
_CLAIMS: Final = ("name", "family", "license", "quantization")


def files_digest(files: Mapping[str, bytes]) -> bytes:
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
        return cls.of(parse_object("card.json", raw, bytes_max=CARD_BYTES_MAX, floats=False))

    @classmethod
    def of(cls, members: Mapping[str, object]) -> Self:
        if set(members) != {*_CLAIMS, "sampling"}:
            odd = sorted(map(str, set(members) ^ {*_CLAIMS, "sampling"}))     # CBOR has keys that are no text
            raise PackMalformed(
                "pack.card", expected=f"{', '.join(_CLAIMS)} and sampling", got=f"missing or unknown: {odd}"[:256]
            )
        name, family, licence, quantization = (_word(f"card.{name}", members[name]) for name in _CLAIMS)
        return cls(name, family, licence, quantization, _sampling(members["sampling"]))


@dataclass(frozen=True, slots=True)
class Measured:
    """What sealing and opening compute from the files themselves."""

    parameters: int
    dtypes: tuple[str, ...]
    config: bytes
    tokenizer: bytes
    template: bytes

    @classmethod
    def of(cls, members: Mapping[str, object]) -> Self:
        if set(members) != {"parameters", "dtypes", "config", "tokenizer", "template"}:
            raise PackMalformed("pack.card", expected="parameters, dtypes and three digests", got="others")
        parameters, dtypes = members["parameters"], members["dtypes"]
        if type(parameters) is not int or not 0 <= parameters < 1 << 63:
            raise PackMalformed("pack.card.parameters", expected="an integer from 0 to 2^63-1", got="other")
        if not isinstance(dtypes, list) or not all(isinstance(dtype, str) and dtype in BITS for dtype in dtypes):
            raise PackMalformed("pack.card.dtypes", expected="known element types", got="other")
        if dtypes != sorted(set(dtypes)):
            raise PackMalformed("pack.card.dtypes", expected="each once, in order", got="another order")
        digests = (digest(f"card.{name}", members[name]) for name in ("config", "tokenizer", "template"))
        return cls(parameters, tuple(dtypes), *digests)


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
            raise PackMalformed("pack.card", expected="two maps", got="other")
        return cls(Claims.of(claims), Measured.of(measured))

    def plain(self) -> dict[str, dict[str, cbor.Encodable]]:
        """As it is encoded."""
        claims, measured = self.claims, self.measured
        return {
            "claims": {
                "name": claims.name, "family": claims.family, "license": claims.license,
                "quantization": claims.quantization, "sampling": dict(claims.sampling),
            },
            "measured": {
                "parameters": measured.parameters, "dtypes": list(measured.dtypes), "config": measured.config,
                "tokenizer": measured.tokenizer, "template": measured.template,
            },
        }


def digest(what: str, value: object) -> bytes:
    """A digest's bytes, sized."""
    if not isinstance(value, bytes) or len(value) != DIGEST_BYTES:
        raise PackMalformed(f"pack.{what}", expected=f"{DIGEST_BYTES} bytes", got=type(value).__name__)
    return value


def _word(what: str, value: object) -> str:
    if not isinstance(value, str) or not _WORD.fullmatch(value):
        raise PackMalformed(f"pack.{what}", expected="1 to 96 letters, digits, blanks or ._+:()/-", got="other")
    return value


def _sampling(value: object) -> Mapping[str, int]:
    if not isinstance(value, dict):
        raise PackMalformed("pack.card.sampling", expected="an object", got=type(value).__name__)
    for name, number in value.items():
        most = SAMPLING_MAX.get(name) if isinstance(name, str) else None
        if most is None:
            raise PackMalformed("pack.card.sampling", expected=f"some of {', '.join(SAMPLING_MAX)}", got=str(name)[:64])
        if type(number) is not int or not 0 <= number <= most:
            raise PackMalformed(f"pack.card.sampling.{name}", expected=f"an integer from 0 to {most}", got="other")
    return MappingProxyType(dict(value))
