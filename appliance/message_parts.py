"""The form of every message on the cell's ports: one array in deterministic CBOR (docs/spec/window.md N3)."""

from __future__ import annotations

from foundation import cbor
from foundation.refusal import Refuse, outline


def message_parts(raw: bytes, limits: cbor.Limits, refuse: Refuse) -> list[cbor.Value]:
    """Every integer in a message is unsigned and none is a boolean. Raises what `refuse` makes of `format`."""
    value = cbor.decode_or(refuse, "format", raw, limits)
    if not isinstance(value, list):
        raise refuse("format", expected="an array", got=type(value).__name__)
    if any(isinstance(part, bool) or (isinstance(part, int) and part < 0) for part in value):
        raise refuse("format", expected="unsigned integers", got=outline(value))
    return value
