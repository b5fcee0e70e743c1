"""window.md N1 to N6: each message has one encoding, and what is none of them is refused under one code."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import hypothesis.strategies as st
import pytest
from hypothesis import given

from appliance.ordering.sequencer import Step, Verdict
from appliance.serving.answer_pipeline import PIECE_TOKENS
from appliance.serving.window import (
    Answered,
    Ask,
    Checkpoint,
    Declined,
    Judged,
    Piece,
    PositionQuery,
    Propose,
    Say,
    Standing,
    Supply,
    WindowRefused,
    decode_ask,
    decode_say,
    encode_ask,
    encode_say,
)
from attestation.consensus.blocks import BODY_BYTES_MAX
from attestation.consensus.slices import PROOF_BYTES_MAX
from attestation.receipts.checkpoint import NOTE_BYTES_MAX
from attestation.receipts.signed_receipt import SIGNED_BYTES_MAX
from attestation.sealed.frames import FRAME_BYTES
from foundation import cbor
from vsock_bridge.limits import Limits

SPEC = Path(__file__).resolve().parents[4] / "docs" / "spec" / "window.md"
LINK = b"\x11" * 32

UINTS = st.integers(0, 2**64 - 1)
MAYBE = st.none() | UINTS
WORDS = st.binary(max_size=64)
TEXTS = st.text(st.characters(codec="utf-8"), max_size=32)
ASKS = st.just(PositionQuery()) | st.builds(Propose, WORDS) | st.builds(Supply, WORDS)
SAYS = st.one_of(
    st.builds(Standing, UINTS, st.binary(min_size=32, max_size=32), MAYBE, UINTS),
    st.builds(Standing, st.just(0), st.none(), MAYBE, UINTS),
    st.builds(Judged, st.sampled_from([step.value for step in Step]), MAYBE, UINTS, UINTS),
    st.builds(Piece, UINTS, UINTS, WORDS),
    st.builds(Answered, UINTS, UINTS, WORDS),
    st.builds(Declined, TEXTS, TEXTS),
    st.builds(Checkpoint, UINTS, WORDS),
)
EXAMPLES: list[Say] = [
    Standing(7, LINK, 8, 1),
    Judged("joined", 1, 2, 3),
    Piece(1, 0, b"w"),
    Answered(1, 0, b"r"),
    Declined("a.code", "text"),
    Checkpoint(1, b"note"),
]


@contextmanager
def under_the_one_code() -> Iterator[None]:
    """What is refused in here is refused as `window.format`; anything else than a refusal passes through."""
    try:
        yield
    except WindowRefused as refusal:
        if refusal.code != "window.format":
            raise


@given(ASKS)
def test_every_ask_comes_back_as_itself(ask: Ask) -> None:
    # window.md N2: and its encoding is the only one
    assert decode_ask(encode_ask(ask)) == ask
    assert encode_ask(decode_ask(encode_ask(ask))) == encode_ask(ask)


@given(SAYS)
def test_every_say_comes_back_as_itself(say: Say) -> None:
    assert decode_say(encode_say(say)) == say


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers(-9, 9) | st.binary(max_size=33) | st.text(max_size=3),
        lambda inner: st.lists(inner, max_size=6) | st.dictionaries(st.integers(0, 9), inner, max_size=2),
        max_leaves=8,
    )
)
def test_any_other_value_is_refused_under_the_one_code(value: cbor.Value) -> None:
    raw = cbor.encode(value)
    for decode, encode in ((decode_ask, encode_ask), (decode_say, encode_say)):
        with under_the_one_code():
            assert encode(decode(raw)) == raw  # type: ignore[operator]  # the pair belongs together


@given(st.binary(max_size=40))
def test_any_bytes_are_a_message_or_refused(raw: bytes) -> None:
    for decode in (decode_ask, decode_say):
        with under_the_one_code():
            decode(raw)


@pytest.mark.parametrize("other", [True, False, -1, None, b"1", "1", [1]])
@pytest.mark.parametrize("say", EXAMPLES)
def test_an_integer_is_unsigned_and_no_boolean(say: Say, other: cbor.Value) -> None:
    """window.md N3: at every place of every message where an integer stands."""
    parts = cbor.decode(encode_say(say))
    assert isinstance(parts, list)
    for place, part in enumerate(parts):
        if type(part) is not int:
            continue
        if other is None and isinstance(say, (Standing, Judged)) and part == (say.wants or -1):
            continue  # `wants` may be null
        with pytest.raises(WindowRefused) as refused:
            decode_say(cbor.encode([*parts[:place], other, *parts[place + 1 :]]))
        assert refused.value.code == "window.format"


@pytest.mark.parametrize(
    "value",
    [
        [False],
        [True, b""],
        [3],
        [0, 0],
        [1],
        [1, "text"],
        [2, b"", b""],
        [],
        0,
        None,
        "position",
        b"",
        {},
        [[0]],
        {0: 0},
        [0, None],
    ],
)
def test_foreign_asks(value: cbor.Value) -> None:
    with pytest.raises(WindowRefused) as refused:
        decode_ask(cbor.encode(value))
    assert refused.value.code == "window.format"


@pytest.mark.parametrize(
    "value",
    [
        [0, 1, None, None, 0],
        [0, 1, LINK[:31], None, 0],
        [0, 1, LINK + b"1", None, 0],
        [1, "jumped", None, 0, 0],
        [3, 1, 0, 2, 1, 1],
        [3, 1, 0, "receipt"],
        [5, 1, 0, "code"],
        [6, 1],
        [6, 1, "note"],
        [2, 1, 0, "words"],
        [4, b"code", "text"],
        [1, "joined", 2**64 - 1, -(2**64), 0],
    ],
)
def test_foreign_says(value: cbor.Value) -> None:
    """window.md N3: links of 32 bytes, steps that exist, and a number that no message has any more."""
    with pytest.raises(WindowRefused) as refused:
        decode_say(cbor.encode(value))
    assert refused.value.code == "window.format"


def test_bytes_that_are_no_cbor_of_ours() -> None:
    for raw in (b"", b"\x81\x00\x00", b"\x9f\x00\xff", b"\x81\x18\x00", b"\x81", b"\xc1\x81\x00", bytes(5 << 20)):
        with pytest.raises(WindowRefused) as refused:
            decode_ask(raw)
        assert refused.value.code == "window.format"


def test_an_item_as_large_as_the_wire_carries_is_understood() -> None:
    """window.md N2: no bound here is below the bridge's."""
    body = bytes(Limits().item_bytes_max - 7)
    raw = encode_ask(Supply(body))
    assert len(raw) == Limits().item_bytes_max
    assert decode_ask(raw) == Supply(body)


def test_a_say_fits_one_frame() -> None:
    """window.md N1: the longest are a piece, a receipt and a checkpoint, and none comes near."""
    for longest in (
        Piece(2**64 - 1, 255, bytes(PIECE_TOKENS * 256)),
        Piece(2**64 - 1, 255, bytes(FRAME_BYTES)),
        Answered(2**64 - 1, 255, bytes(SIGNED_BYTES_MAX)),
        Checkpoint(2**64 - 1, bytes(NOTE_BYTES_MAX)),
    ):
        assert len(encode_say(longest)) < Limits().chunk_bytes


def test_a_verdict_is_told_as_it_is() -> None:
    """window.md N6: step, want, reach and time."""
    assert Judged.of(Verdict(Step.OVERLAPPED, 3, 9, 77)) == Judged("overlapped", 3, 9, 77)
    assert Judged.of(Verdict(Step.STALE, None, 9, 77)).wants is None


def test_no_message_shows_what_it_carries() -> None:
    """secrecy.md S2: words, proofs and bodies are left out of the rendering."""
    for message in (Propose(b"canary"), Supply(b"canary"), Piece(1, 0, b"canary"), Answered(1, 0, b"canary")):
        assert "canary" not in repr(message)


def test_the_example_of_the_specification() -> None:
    """window.md N2, N5: what stands at its top is what the code says."""
    block = SPEC.read_text(encoding="utf-8").split("```")[1]
    told: list[tuple[str, str]] = []
    for line in block.strip().splitlines():
        if begins := re.match(r"(host -> cell|cell -> host) +([0-9a-f]+)", line):
            told.append((begins[1], begins[2]))
        else:
            told[-1] = (told[-1][0], told[-1][1] + line.strip())
    messages = [
        PositionQuery(),
        Standing(0, None, None, 0),
        Propose(b"\xa1\xa2\xa3"),
        Judged("joined", 1, 1, 1000),
        Supply(b"\xb1\xb2\xb3"),
        Piece(1, 0, b"Hello"),
        Piece(1, 0, b".."),
        Answered(1, 0, b"\xc1\xc2"),
        Answered(1, 1, b"\xc3\xc4"),
        Checkpoint(1, b"note"),
        Standing(1, LINK, None, 1000),
        None,
        Declined("window.format", "expected ..."),
    ]
    assert len(told) == len(messages)
    for (way, raw), message in zip(told, messages, strict=True):
        decode = decode_ask if way == "host -> cell" else decode_say
        if message is None:
            with pytest.raises(WindowRefused):
                decode(bytes.fromhex(raw))
        else:
            assert decode(bytes.fromhex(raw)) == message


def test_every_body_and_proof_that_order_allows_fits_an_item_of_the_bridge() -> None:
    # order.md O9 and wire.md W19: else a certified block could never be brought, and the cell would stand for good.
    for ask in (Supply(bytes(BODY_BYTES_MAX)), Propose(bytes(PROOF_BYTES_MAX))):
        assert len(encode_ask(ask)) <= Limits().item_bytes_max
