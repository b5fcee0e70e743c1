"""answer.md A3, A5, A10 to A13: a request opens for one cell, height and caller, or is refused under one code."""

from __future__ import annotations

import itertools
import os
from dataclasses import replace

import hypothesis.strategies as st
import pytest
from hypothesis import given

from attestation.sealed.buckets import (
    BYTES_PER_STEP,
    RUNGS,
    answer_frames,
    billed_in,
    request_bytes,
    rung,
    rung_of_frames,
)
from attestation.sealed.errors import SealedRefused
from attestation.sealed.request import Mode, Place, SealedRequest, Unsealed, seal, unseal
from attestation.sealed.ring import Ring
from attestation.sealed.suites import ENCAPSULATED_BYTES, TAG_BYTES, SuiteId
from foundation import cbor
from foundation.secrecy import Prompt, Secret

RINGS = {suite: Ring.make(suite, 1, 100, 20, randomness=os.urandom) for suite in SuiteId}
PLACE = Place(b"\x00\x01gateway", b"\x30" * 32)
REPLY = Secret(b"\x21" * 32)
CALLER = b"\x04"


def inside(chat: bytes = b"hunter", mode: Mode = Mode.WHOLE, caller: bytes | None = None) -> Unsealed:
    return Unsealed(Prompt(chat), REPLY, mode, caller)


def sealed(suite: SuiteId = SuiteId.X25519, of: Unsealed | None = None, *, expiry: int = 50, key: int = 0) -> bytes:
    return seal(of or inside(), RINGS[suite].keys[key].key.public, PLACE, expiry)


def code_of(
    payload: bytes, suite: SuiteId = SuiteId.X25519, *, place: Place = PLACE, height: int = 7, caller: bytes = CALLER
) -> str:
    with pytest.raises(SealedRefused) as refused:
        unseal(payload, RINGS[suite], place, height=height, caller=caller)
    assert not any(word in str(refused.value) for word in ("hunter", "21" * 8))
    return refused.value.code


@given(st.sampled_from(SuiteId), st.binary(max_size=3000), st.sampled_from(Mode), st.none() | st.just(CALLER))
def test_what_is_sealed_comes_out(suite: SuiteId, chat: bytes, mode: Mode, caller: bytes | None) -> None:
    opened = unseal(sealed(suite, inside(chat, mode, caller)), RINGS[suite], PLACE, height=7, caller=CALLER)
    assert (opened.chat, opened.reply_key, opened.mode, opened.caller) == (Prompt(chat), REPLY, mode, caller)


@given(st.binary(max_size=4000), st.sampled_from(Mode), st.none() | st.binary(min_size=1, max_size=29))
def test_the_length_of_a_payload_says_its_rung_and_nothing_else(chat: bytes, mode: Mode, caller: bytes | None) -> None:
    """answer.md A3, A12: whatever stands inside."""
    of = inside(chat, mode, caller)
    room = len(of.encode())
    assert room == request_bytes(room)
    head = len(SealedRequest(SuiteId.X25519, bytes(32), 50, b"").encode()) - 1
    body = ENCAPSULATED_BYTES[SuiteId.X25519] + room + TAG_BYTES
    assert len(sealed(of=of)) == head + len(cbor.head(0x40, body)) + body
    assert billed_in(room) == room // 4


def test_the_ladder() -> None:
    """answer.md A3: no step is more than the double, and from 48 on none is more than half again."""
    assert RUNGS[:12] == (16, 32, 48, 64, 96, 128, 192, 256, 384, 512, 768, 1024)
    assert all(high * 2 <= low * 3 for low, high in itertools.pairwise(RUNGS[2:]))
    assert all(each % 16 == 0 for each in RUNGS)
    assert [rung(size) for size in (0, 1, 16, 17, 64, 65)] == [16, 16, 16, 32, 64, 96]
    assert request_bytes(1) == 256 == 16 * BYTES_PER_STEP
    assert [answer_frames(each) for each in (16, 64, 96)] == [2, 5, 7]
    assert [rung_of_frames(count) for count in (0, 1, 2, 5)] == [16, 16, 32, 96]
    with pytest.raises(ValueError, match="no rung"):
        rung(RUNGS[-1] + 1)


@pytest.mark.parametrize("suite", SuiteId)
def test_every_byte_of_a_payload_counts(suite: SuiteId) -> None:
    payload = sealed(suite)
    for at in {*range(48), len(payload) // 2, len(payload) - 1}:
        changed = bytearray(payload)
        changed[at] ^= 1
        assert code_of(bytes(changed), suite) in {"sealed.format", "sealed.key", "sealed.expired", "sealed.unsealable"}
    for cut in (0, 1, 40, len(payload) - 1):
        assert code_of(payload[:cut], suite) == "sealed.format"
    assert code_of(payload + b"\0", suite) == "sealed.format"


def test_what_is_bound_is_bound() -> None:
    """answer.md A5, A10: another gateway, model, height or caller, and it is not run."""
    payload = sealed()
    assert code_of(payload, place=replace(PLACE, gateway=b"\x00\x02")) == "sealed.unsealable"
    assert code_of(payload, place=replace(PLACE, model_root=bytes(32))) == "sealed.unsealable"
    assert unseal(payload, RINGS[SuiteId.X25519], PLACE, height=50, caller=CALLER).chat == Prompt(b"hunter")
    assert code_of(payload, height=51) == "sealed.expired"
    assert code_of(sealed(expiry=10**9), height=121) == "sealed.key"  # the key is over, whatever the request says
    assert code_of(sealed(key=1), height=100) == "sealed.key"  # or not yet in use
    assert unseal(sealed(key=1, expiry=150), RINGS[SuiteId.X25519], PLACE, height=101, caller=CALLER)
    assert code_of(sealed(of=inside(caller=b"\x05"))) == "sealed.caller"
    assert code_of(sealed(SuiteId.MLKEM768_X25519)) == "sealed.key"
    claimed = SealedRequest.parse(payload)
    assert code_of(replace(claimed, suite=SuiteId.MLKEM768_X25519).encode()) == "sealed.key"
    assert code_of(replace(claimed, expiry=10**9).encode()) == "sealed.unsealable"
    assert (
        code_of(replace(claimed, key_id=RINGS[SuiteId.X25519].keys[1].key.public.id).encode(), height=105)
        == "sealed.expired"
    )


def of_plaintext(plain: bytes) -> bytes:
    key = RINGS[SuiteId.X25519].keys[0].key.public
    head = SealedRequest(key.suite, key.id, 50, b"")
    return replace(head, sealed=key.seal(plain, head.info(PLACE))).encode()


@pytest.mark.parametrize(
    "plain",
    [
        b"",
        b"\0\0\0",
        bytes(256),
        inside().encode()[:-1],
        inside().encode() + b"\0",
        inside().encode() + bytes(256),
        inside().encode()[:-1] + b"\1",
        b"\xff" * 256,
        (252).to_bytes(4, "big") + bytes(251),
        (300).to_bytes(4, "big") + bytes(252),
        bytes(4) + bytes(236),
    ],
)
def test_padding_is_zeros_to_the_first_rung(plain: bytes) -> None:
    """answer.md A12"""
    assert code_of(of_plaintext(plain)) == "sealed.padding"


@pytest.mark.parametrize(
    "value",
    [
        [],
        [b"hunter", REPLY.reveal(), 0],
        [b"hunter", REPLY.reveal(), 2, None],
        [b"hunter", REPLY.reveal(), False, None],
        [b"hunter", REPLY.reveal()[:31], 0, None],
        ["chat", REPLY.reveal(), 0, None],
        [b"hunter", REPLY.reveal(), 0, b""],
        [b"hunter", REPLY.reveal(), 0, bytes(30)],
        [b"hunter", REPLY.reveal(), 0, None, None],
        {},
        b"hunter",
    ],
)
def test_inside_is_one_shape(value: cbor.Value) -> None:
    """answer.md A11"""
    body = cbor.encode(value)
    assert code_of(of_plaintext((len(body).to_bytes(4, "big") + body).ljust(256, b"\0"))) == "sealed.inside"


def test_inside_has_one_encoding() -> None:
    body = b"\x84\x58\x06hunter\x58\x20" + REPLY.reveal() + b"\x00\xf6"
    assert code_of(of_plaintext((len(body).to_bytes(4, "big") + body).ljust(256, b"\0"))) == "sealed.inside"


@pytest.mark.parametrize(
    "value",
    [
        [],
        [2, 2, bytes(32), 50, b""],
        [1, 3, bytes(32), 50, b""],
        [1, 2, bytes(31), 50, b""],
        [1, 2, bytes(32), -1, b""],
        [1, True, bytes(32), 50, b""],
        [True, 2, bytes(32), 50, b""],
        [1, 2, bytes(32), 50, "s"],
        [1, 2, bytes(32), 50],
        1,
    ],
)
def test_outside_is_one_shape(value: cbor.Value) -> None:
    """answer.md A5, A13"""
    assert code_of(cbor.encode(value)) == "sealed.format"


def test_nothing_of_it_has_a_rendering() -> None:
    """secrecy.md S2"""
    shown = repr(inside(b"canary", caller=b"canary")) + repr(SealedRequest.parse(sealed()))
    assert "canary" not in shown
    assert REPLY.reveal().hex() not in shown
