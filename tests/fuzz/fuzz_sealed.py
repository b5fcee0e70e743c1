"""Invariant: any bytes are a payload, an inside, a ring, an offer or a question with one encoding, or refused as one.

A payload that parses is opened as a cell does, and nothing but the declared refusal comes out of that either.
"""

from __future__ import annotations

import itertools
from contextlib import suppress

from anchorhold.client.question import Question
from attestation.sealed.errors import AnswerRefused, KeysRefused, SealedRefused
from attestation.sealed.request import Mode, Place, SealedRequest, Unsealed, seal, unseal
from attestation.sealed.ring import Offer, Ring
from attestation.sealed.suites import SuiteId
from foundation.secrecy import Prompt, Secret

PLACE = Place(b"\x00\x01", b"\x30" * 32)
INSIDE = Unsealed(Prompt(b"chat"), Secret(b"\x21" * 32), Mode.STREAM, b"\x04")


def _ring(suite: SuiteId) -> Ring:
    numbers = itertools.count(1)
    return Ring.make(suite, 1, 100, 10, randomness=lambda size: bytes([next(numbers)]) * size)


RING, OTHER = _ring(SuiteId.X25519), _ring(SuiteId.MLKEM768_X25519)


class Silent:
    def sign(self, data: bytes, /) -> bytes:
        return bytes(64)


PAYLOAD = seal(INSIDE, RING.keys[0].key.public, PLACE, 50)
SEEDS: list[bytes] = [
    PAYLOAD,
    seal(INSIDE, OTHER.keys[0].key.public, PLACE, 50),
    INSIDE.encode(),
    RING.encode().reveal(),
    OTHER.encode().reveal(),
    Offer.of("a/service-key/b", RING.keys[0]).signed(Silent()),
    Question(PAYLOAD, Secret(b"\x21" * 32), PLACE, 256).encode().reveal(),
    b"",
]


def one_input(data: bytes) -> None:
    try:
        request = SealedRequest.parse(data)
        _expect(request.encode() == data, "a second encoding of a payload")
        unseal(data, RING, PLACE, height=7, caller=b"\x04")
    except SealedRefused as refusal:
        _expect(refusal.code.startswith("sealed."), "another code")
    with suppress(SealedRefused):
        _expect(Unsealed.parse(data).encode() == data, "a second encoding of an inside")
    with suppress(KeysRefused):
        _expect(Ring.parse(Secret(data)).encode().reveal() == data, "a second encoding of a ring")
    try:
        Offer.checked(data, b"\x11" * 32)
    except KeysRefused:
        pass
    else:
        _expect(False, "an offer that nobody signed")
    with suppress(AnswerRefused):
        _expect(Question.parse(Secret(data)).encode().reveal() == data, "a second encoding of a question")


def _expect(held: bool, broken: str) -> None:
    if not held:
        raise AssertionError(broken)
