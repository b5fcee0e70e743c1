"""What the files of a model say together: element types, parameters, digests, one tensor for each name.

Computed by who seals and again by who opens, from the bytes themselves.
"""

from __future__ import annotations

from collections.abc import Mapping
from hashlib import sha256

from foundation.document import json_object
from foundation.refusal import listed, shape
from foundation.sized import Digest32
from measurements.digests import ModelConfigDigest, TemplateDigest, TokenizerDigest
from measurements.pack.card import Measured, files_digest
from measurements.pack.errors import PackMalformed
from measurements.pack.files import SMALL_BYTES_MAX, WEIGHTS_INDEX, Kind, check_small, kind_of
from measurements.pack.safetensors import SafetensorsHeader


def measure(small: Mapping[str, bytes], weights: Mapping[str, SafetensorsHeader]) -> Measured:
    """Checks every file that is not weights, and all of them against each other (pack.md P5, P6, P8)."""
    for name, raw in small.items():
        check_small(name, raw)
    homes = _homes(weights)
    if WEIGHTS_INDEX in small:
        _check_index(small[WEIGHTS_INDEX], homes)
    tensors = [tensor for header in weights.values() for tensor in header.tensors]
    return Measured(
        parameters=sum(tensor.elements for tensor in tensors),
        dtypes=tuple(sorted({tensor.dtype for tensor in tensors})),
        config=ModelConfigDigest(_digest(small, Kind.CONFIG)),
        tokenizer=TokenizerDigest(_digest(small, Kind.TOKENIZER)),
        template=TemplateDigest(_digest(small, Kind.TEMPLATE)),
    )


def _homes(weights: Mapping[str, SafetensorsHeader]) -> dict[str, str]:
    """In which file each tensor is."""
    homes: dict[str, str] = {}
    for name, header in weights.items():
        for tensor in header.tensors:
            if homes.setdefault(tensor.name, name) != name:
                raise PackMalformed(
                    "pack.tensor",
                    expected=f"tensor {tensor.name[:128]!r} in one file",
                    got=f"{homes[tensor.name]} and {name}",
                )
    if not homes:
        raise PackMalformed("pack.tensor", expected="at least one tensor", got="none")
    return homes


def _check_index(raw: bytes, homes: Mapping[str, str]) -> None:
    index = json_object(raw, "pack", PackMalformed, bytes_max=SMALL_BYTES_MAX, called=WEIGHTS_INDEX, floats=True)
    said = index.get("weight_map")
    if said != homes:
        also = listed(said.keys() - homes.keys()) if isinstance(said, dict) else shape(said)
        wrong = next((name for name in homes if not isinstance(said, dict) or said.get(name) != homes[name]), None)
        raise PackMalformed(
            "pack.weight-map",
            expected="every tensor where it is, and no other",
            got=f"also {also}" if wrong is None else f"another place for {wrong[:128]!r}",
        )


def _digest(small: Mapping[str, bytes], kind: Kind) -> Digest32:
    return files_digest({name: sha256(raw).digest() for name, raw in small.items() if kind_of(name) is kind})
