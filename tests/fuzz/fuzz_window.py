"""Invariant: any bytes are an ask that encodes back to them, or refused as `window.format`; the same for a say."""

from __future__ import annotations

from appliance.serving.window import (
    Answered,
    Checkpoint,
    Declined,
    Judged,
    Piece,
    PositionQuery,
    Propose,
    Standing,
    Supply,
    WindowRefused,
    decode_ask,
    decode_say,
    encode_ask,
    encode_say,
)

ASKS = (PositionQuery(), Propose(b"proof"), Supply(b"body"))
SAYS = (
    Standing(0, None, None, 0),
    Standing(2**64 - 1, bytes(32), 9, 1000),
    Judged("joined", 1, 2, 3),
    Judged("stale", None, 2, 3),
    Piece(1, 255, b"words"),
    Answered(1, 0, b"receipt"),
    Declined("slice.height", "expected 2, got 3"),
    Checkpoint(1, b"note"),
)
SEEDS: list[bytes] = [*[encode_ask(ask) for ask in ASKS], *[encode_say(say) for say in SAYS], b"\x81\xf5"]


def one_input(data: bytes) -> None:
    try:
        ask = decode_ask(data)
    except WindowRefused as refusal:
        _expect(refusal.code == "window.format", "another code")
    else:
        _expect(encode_ask(ask) == data, "a second encoding of an ask")
    try:
        say = decode_say(data)
    except WindowRefused as refusal:
        _expect(refusal.code == "window.format", "another code")
    else:
        _expect(encode_say(say) == data, "a second encoding of a say")


def _expect(held: bool, broken: str) -> None:
    if not held:
        raise AssertionError(broken)
