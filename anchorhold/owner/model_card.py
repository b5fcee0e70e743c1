"""The card of a model that came without one, out of what its own files say.

    card_of(describe(config_json), generation_config_json, name="mine-1", licence="Apache-2.0")

Name and licence are the owner's to say; all else stands in `config.json` and `generation_config.json`. The card's form,
and who checks which line of it, are `measurements/pack/card.py`'s.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Final

from anchorhold.owner.errors import OwnerRefused
from appliance.engine.fixed.architecture import Format, Quantization
from appliance.models import Described
from attestation.consensus.chat import is_model_name
from foundation.document import json_object
from foundation.refusal import shown
from measurements.pack.card import Claims
from measurements.pack.files import SMALL_BYTES_MAX

MICRO: Final = 1_000_000
GENERATION: Final = "generation_config.json"


def card_of(described: Described, generation: bytes | None, *, name: str, licence: str) -> bytes:
    """The bytes of `card.json`. Raises `OwnerRefused`, and `PackMalformed` for a name or licence no card can have."""
    card = {
        "family": described.family.value,
        "license": licence,
        "name": name,
        "quantization": quantization_of(described.architecture.quantization),
        "sampling": {} if generation is None else sampling_of(generation),
    }
    raw = (json.dumps(card, indent=1, sort_keys=True) + "\n").encode()
    check_name(Claims.parse(raw))
    return raw


def check_name(claims: Claims) -> None:
    """A card's name may have spaces; a request's may not, and it is the name that requests give."""
    if not is_model_name(claims.name):
        raise OwnerRefused(
            "card.name",
            expected="a name that a request can give: printable ASCII without a space, at most 64 characters",
            got=shown(claims.name),
            hint="change `name` in card.json, or give --name where there is no card",
        )


def quantization_of(quantization: Quantization) -> str:
    if quantization.format is Format.BF16:
        return "none"
    return f"{quantization.format.value}-g{quantization.group}"


def sampling_of(generation: bytes) -> Mapping[str, int]:
    """What `generation_config.json` says of choosing a token, in millionths. What it leaves out stays out."""
    said = json_object(
        generation, "generation", OwnerRefused, bytes_max=SMALL_BYTES_MAX, called=GENERATION, floats=True
    )
    if said.get("do_sample") is False:
        return {"temperature_micro": 0}
    found = {f"{name}_micro": _micro(name, said[name]) for name in ("temperature", "top_p") if name in said}
    top_k = said.get("top_k")
    if top_k is not None:
        if type(top_k) is not int or top_k < 0:
            raise _refused("top_k", "a whole number", top_k)
        found["top_k"] = top_k
    return found


def _micro(name: str, value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 100:
        raise _refused(name, "a number from 0 to 100", value)
    return round(value * MICRO)


def _refused(name: str, expected: str, got: object) -> OwnerRefused:
    return OwnerRefused(f"generation.{name}", expected=f"{expected} in {GENERATION}", got=shown(got))
