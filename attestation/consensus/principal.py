"""Principals: 0 to 29 bytes, and their text with its checksum.

`to_text(b"")` is `aaaaa-aa`, the management canister. One text per principal: `from_text` refuses every other
spelling (case, dashes, checksum). Says nothing about whether such a canister or user exists.
"""

from __future__ import annotations

import base64
import binascii
import zlib

from attestation.consensus.refusals import EncodingRefused
from foundation.refusal import shown

PRINCIPAL_BYTES_MAX = 29
MANAGEMENT_CANISTER = b""

_TEXT_CHARACTERS_MAX = 63  # 4 + 29 bytes in base32, and a dash after every fifth


def to_text(raw: bytes) -> str:
    check(raw)
    checksum = zlib.crc32(raw).to_bytes(4, "big")
    letters = base64.b32encode(checksum + raw).decode("ascii").rstrip("=").lower()
    return "-".join(letters[i : i + 5] for i in range(0, len(letters), 5))


def from_text(text: str) -> bytes:
    if len(text) > _TEXT_CHARACTERS_MAX:
        raise _refused("text", f"at most {_TEXT_CHARACTERS_MAX} characters", f"{len(text)}")
    letters = text.replace("-", "").upper()
    try:
        decoded = base64.b32decode(letters + "=" * (-len(letters) % 8))
    except (binascii.Error, ValueError):
        raise _refused("text", "base32 groups of five", shown(text)) from None
    if len(decoded) < 4:
        raise _refused("text", "a checksum of 4 bytes", f"{len(decoded)} bytes")
    raw = decoded[4:]
    if zlib.crc32(raw).to_bytes(4, "big") != decoded[:4]:
        raise _refused("checksum", "a matching checksum", f"{shown(decoded[:4])} for {zlib.crc32(raw):08x}")
    if to_text(raw) != text:
        raise _refused("text", to_text(raw), shown(text))
    return raw


def check(raw: bytes) -> bytes:
    """`raw` itself, if a principal can have that many bytes."""
    if len(raw) > PRINCIPAL_BYTES_MAX:
        raise _refused("length", f"at most {PRINCIPAL_BYTES_MAX} bytes", f"{len(raw)}")
    return raw


def _refused(code: str, expected: str, got: str) -> EncodingRefused:
    return EncodingRefused(f"principal.{code}", expected=expected, got=got)
