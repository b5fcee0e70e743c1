"""The measured configuration of a model's cells, and what a broker's file says of it: both follow from the same values.

    raw = configuration(served, profile=..., identity=..., broker_key=..., resources=Resources.of(identity.name))
    config_digest(raw)                            # what a machine must report
    broker_section(config_digest(raw), root)      # [release] of broker.toml

Pure. What the lines mean is in `appliance/config.py`, which reads back what is written here before anybody sees it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final, Self

from appliance.config import MeasuredConfig
from attestation.consensus.principal import to_text
from attestation.rcar.grant import GrantPurpose
from attestation.receipts.price import FREE, PriceSchedule
from measurements.pack.identity import Identity

REPOSITORY: Final = "default"
_TAG_CHARACTERS_MAX: Final = 64
_NO_TAG: Final = re.compile(r"[^a-z0-9._-]+")


@dataclass(frozen=True, slots=True)
class Served:
    """What nobody but the owner can say of the cells."""

    gateway: bytes
    root_key: bytes
    engine: str
    plaintext: bool = False  # whether plain requests are run as well as sealed ones
    price: PriceSchedule = FREE


@dataclass(frozen=True, slots=True)
class Resources:
    """Under which names a broker holds the keys of a model."""

    model: str
    service: str

    @classmethod
    def of(cls, name: str) -> Self:
        """From the model's name, in the letters that a broker's names have."""
        tag = _NO_TAG.sub("-", name.lower()).lstrip("._-")[:_TAG_CHARACTERS_MAX] or "model"
        return cls(*(f"{REPOSITORY}/{purpose.value}/{tag}" for purpose in (GrantPurpose.MODEL, GrantPurpose.SERVICE)))


def configuration(
    served: Served, *, profile: bytes, identity: Identity, broker_key: bytes, resources: Resources
) -> bytes:
    """The bytes of `cell.toml`. Raises `ConfigRefused` for what no cell would start with."""
    price = served.price
    priced = f"\n[price]\nrequest = {price.request}\ntoken_in = {price.token_in}\ntoken_out = {price.token_out}\n"
    raw = (
        f'gateway = "{to_text(served.gateway)}"\n'
        f'root_key = "{served.root_key.hex()}"\n'
        f'engine = "{served.engine}"\n'
        f'profile = "{profile.hex()}"\n'
        f"plaintext = {str(served.plaintext).lower()}\n"
        f"{'' if price == FREE else priced}"
        f'\n[release]\nbroker_key = "{broker_key.hex()}"\nresource = "{resources.model}"\n'
        f'service = "{resources.service}"\nmodel_root = "{identity.model_root.hex()}"\n'
        f'\n[release.model]\nname = "{identity.name}"\n'
        f'tokenizer = "{identity.tokenizer.hex()}"\ntemplate = "{identity.template.hex()}"\n'
    ).encode()
    MeasuredConfig.parse(raw)
    return raw


def broker_section(measured_config: bytes, model_root: bytes) -> str:
    return f'\n[release]\nmeasured_config = "{measured_config.hex()}"\nmodel_root = "{model_root.hex()}"\n'
