"""What the cell must not be told by its host: a file inside the measured image, parsed once, never overridden.

    gateway = "rrkah-fqaaa-aaaaa-aaaaq-cai"     the canister whose blocks are believed
    root_key = "814c..."                        96 bytes: the root of the subnets' certificates
    engine = "scripted-1"
"""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from typing import Self

from attestation.consensus.principal import from_text
from attestation.consensus.roots import parse_root_key
from foundation.refusal import Refused

CONFIG_BYTES_MAX = 64 * 1024
_FIELDS = frozenset({"gateway", "root_key", "engine"})


class ConfigRefused(Refused):
    """The measured configuration is not one."""

    stage = "config"


@dataclass(frozen=True, slots=True)
class MeasuredConfig:
    """D2: subnet root, gateway and engine, all inside the measurement."""

    gateway: bytes
    root_key: bytes
    engine: str

    @classmethod
    def parse(cls, raw: bytes) -> Self:
        if len(raw) > CONFIG_BYTES_MAX:
            raise ConfigRefused("size", expected=f"at most {CONFIG_BYTES_MAX} bytes", got=len(raw))
        try:
            fields = tomllib.loads(raw.decode("utf-8"))
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as reason:
            raise ConfigRefused("toml", expected="TOML in UTF-8", got=type(reason).__name__) from None
        if fields.keys() != _FIELDS:
            raise ConfigRefused("fields", expected=sorted(_FIELDS), got=sorted(fields))
        for name, value in fields.items():
            if not isinstance(value, str):
                raise ConfigRefused(name, expected="a text", got=type(value).__name__)
        return cls(from_text(fields["gateway"]), parse_root_key(_hex(fields["root_key"])), fields["engine"])


def _hex(text: str) -> bytes:
    try:
        return bytes.fromhex(text)
    except ValueError:
        raise ConfigRefused("root_key", expected="hexadecimal", got="another text") from None
