"""Root keys. The mainnet key is the only one shipped; a cell's own root is measured into it."""

from __future__ import annotations

from typing import Final

from attestation.consensus.bls import PUBLIC_KEY_BYTES, check_public_key, public_key_from_der
from attestation.consensus.refusals import BlsRefused, EncodingRefused

MAINNET_ROOT_KEY: Final = bytes.fromhex(
    "814c0e6ec71fab583b08bd81373c255c3c371b2e84863c98a4f1e08b74235d14"
    "fb5d9c0cd546d9685f913a0c0b2cc5341583bf4b4392e467db96d65b9bb4cb71"
    "7112f8472e0d5a4d14505ffd7484b01291091c5f87b98883463f98091a0baaae"
)


def parse_root_key(raw: bytes) -> bytes:
    """A root key of 96 bytes, from these themselves or from their DER."""
    key = raw if len(raw) == PUBLIC_KEY_BYTES else public_key_from_der(raw)
    try:
        return check_public_key(key)
    except BlsRefused as refusal:
        raise EncodingRefused("key.point", expected=refusal.expected, got=refusal.got) from refusal
