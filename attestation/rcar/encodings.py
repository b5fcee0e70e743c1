"""Base64url without padding, one spelling per value; and JSON as we write it."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping

from attestation.rcar.errors import MessageRefused
from foundation import document
from foundation.refusal import shape


def to_base64url(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode("ascii")


def from_base64url(what: str, text: object, *, bytes_max: int) -> bytes:
    """The bytes of `text`. Raises `MessageRefused` unless it is their one canonical spelling."""
    if not isinstance(text, str) or len(text) > bytes_max * 4 // 3 + 4:
        raise MessageRefused(f"{what}.base64url", expected=f"at most {bytes_max} bytes of it", got=shape(text))
    try:
        raw = base64.b64decode(text.encode("ascii") + b"=" * (-len(text) % 4), altchars=b"-_", validate=True)
    except ValueError:
        raise MessageRefused(
            f"{what}.base64url",
            expected="base64url without padding",
            got=f"{len(text)} characters of another alphabet or length",
        ) from None
    if to_base64url(raw) != text:
        raise MessageRefused(
            f"{what}.base64url",
            expected="the one spelling of a value",
            got="bits that are not zero after the last byte",
        )
    return raw


def to_json(value: Mapping[str, object]) -> bytes:
    return json.dumps(value, separators=(",", ":"), sort_keys=True).encode("ascii")


def json_object(what: str, raw: bytes, bytes_max: int) -> dict[str, object]:
    """The object that `raw` is, strictly read. Raises `MessageRefused` alone."""
    return document.json_object(raw, what, MessageRefused, bytes_max=bytes_max, called="a message")
