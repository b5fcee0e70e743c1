"""BLS signatures: what is refused, and that a second implementation agrees on every verdict."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyblst
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from attestation.consensus import bls
from attestation.consensus.certificate import parse_certificate
from attestation.consensus.delegation import signed_bytes
from attestation.consensus.hashtree import Found, lookup
from attestation.consensus.refusals import BlsRefused, ConsensusRefused, EncodingRefused
from attestation.consensus.roots import MAINNET_ROOT_KEY, parse_root_key
from tests.little_subnet import DST, ROOT, Signer

VECTORS = Path(__file__).resolve().parents[5] / "shared" / "vectors" / "icp"

IDENTITY_SIGNATURE = b"\xc0" + bytes(47)
IDENTITY_KEY = b"\xc0" + bytes(95)
FIELD_MODULUS = int(
    "1a0111ea397fe69a4b1ba7b6434bacd764774b84f38512bf6730d2a0f6b0f6241eabfffeb153ffffb9feffffffffaaab", 16
)
GENERATOR_2 = bytes.fromhex(
    "93e02b6052719f607dacd3a088274f65596bd0d09920b61ab5da61bbdc7f5049334cf11213945d57e5ac7d055d042b7e"
    "024aa2b2f08f0a91260805272dc51051c6e47ad4fa403b02b4510b647ae3d1770bac0326a805bbefd48056c8c121bdb8"
)
MESSAGE = b"a message"


def refusal_of(public_key: bytes, signature: bytes, message: bytes = MESSAGE) -> str | None:
    try:
        bls.verify(public_key, signature, message)
    except BlsRefused as refusal:
        return refusal.code
    return None


def holds(public_key: bytes, signature: bytes, message: bytes) -> bool:
    """The same verdict from the other library."""
    if len(signature) != 48 or len(public_key) != 96 or signature[0] & 0x40 or public_key[0] & 0x40:
        return False
    try:
        point = pyblst.BlstP1Element().uncompress(signature)
        key = pyblst.BlstP2Element().uncompress(public_key)
    except ValueError:
        return False
    generator = pyblst.BlstP2Element().uncompress(GENERATOR_2)
    hashed = pyblst.BlstP1Element().hash_to_group(message, DST)
    return bool(pyblst.final_verify(pyblst.miller_loop(point, generator), pyblst.miller_loop(hashed, key)))


def test_a_signature_holds_for_its_key_and_message_alone() -> None:
    # certificates.md K4
    signature = ROOT.sign(MESSAGE)
    bls.verify(ROOT.public_key, signature, MESSAGE)
    assert refusal_of(ROOT.public_key, signature, MESSAGE + b".") == "signature.invalid"
    assert refusal_of(Signer(99).public_key, signature) == "signature.invalid"
    assert refusal_of(ROOT.public_key, Signer(99).sign(MESSAGE)) == "signature.invalid"


def test_the_identity_signs_nothing_and_is_nobodys_key() -> None:
    # certificates.md K4
    assert refusal_of(ROOT.public_key, IDENTITY_SIGNATURE) == "signature.identity"
    assert refusal_of(IDENTITY_KEY, ROOT.sign(MESSAGE)) == "signature.key-identity"
    # Together they satisfy the pairing equation for every message: the forgery this guards against.
    assert refusal_of(IDENTITY_KEY, IDENTITY_SIGNATURE) == "signature.key-identity"


@pytest.mark.parametrize("other", [b"\xff" * 48, b"\xe0" + bytes(47), b"\xc0" + bytes(46) + b"\x01"])
def test_no_other_spelling_of_the_identity_passes(other: bytes) -> None:
    assert refusal_of(ROOT.public_key, other) in ("signature.identity", "signature.point")
    key_refused = refusal_of(other + bytes(48), ROOT.sign(MESSAGE))
    assert key_refused in ("signature.key-identity", "signature.key-point")


@pytest.mark.parametrize("length", [0, 1, 47, 49, 96])
def test_a_signature_is_48_bytes(length: int) -> None:
    assert refusal_of(ROOT.public_key, bytes(length)) == "signature.length"


@pytest.mark.parametrize("length", [0, 48, 95, 97, 133, 192])
def test_a_key_is_96_bytes(length: int) -> None:
    assert refusal_of(bytes(length), ROOT.sign(MESSAGE)) == "signature.key-length"


def test_a_point_outside_the_subgroup_is_refused() -> None:
    # Of the points of the curve hardly any lies in the subgroup: the first x values that lie on it at all.
    on_curve = 0
    for x in range(1, 40):
        if pow(x**3 + 4, (FIELD_MODULUS - 1) // 2, FIELD_MODULUS) != 1:
            continue
        on_curve += 1
        raw = bytearray(x.to_bytes(48, "big"))
        raw[0] |= 0x80
        assert refusal_of(ROOT.public_key, bytes(raw)) == "signature.point"
    assert on_curve > 5


def test_a_coordinate_beyond_the_field_is_refused() -> None:
    signature = bytearray(ROOT.sign(MESSAGE))
    flags, x = signature[0] & 0xE0, int.from_bytes(signature, "big") & ((1 << 381) - 1)
    beyond = bytearray((x + FIELD_MODULUS).to_bytes(48, "big")) if x + FIELD_MODULUS < 1 << 381 else None
    raw = beyond or bytearray(FIELD_MODULUS.to_bytes(48, "big"))
    raw[0] |= flags
    assert refusal_of(ROOT.public_key, bytes(raw)) == "signature.point"


def test_the_uncompressed_flag_is_refused() -> None:
    signature = bytearray(ROOT.sign(MESSAGE))
    signature[0] &= 0x7F
    assert refusal_of(ROOT.public_key, bytes(signature)) == "signature.point"


def test_der_is_unwrapped_and_nothing_else_is() -> None:
    assert bls.public_key_from_der(ROOT.der) == ROOT.public_key
    for der in (ROOT.public_key, ROOT.der + b"\x00", ROOT.der[:-1], b"\x31" + ROOT.der[1:], b""):
        with pytest.raises(EncodingRefused) as caught:
            bls.public_key_from_der(der)
        assert caught.value.code == "key.der"


def test_a_root_key_comes_raw_or_as_der() -> None:
    assert parse_root_key(MAINNET_ROOT_KEY) == MAINNET_ROOT_KEY
    assert parse_root_key(bls.public_key_to_der(MAINNET_ROOT_KEY)) == MAINNET_ROOT_KEY
    for raw in (IDENTITY_KEY, bytes(96), bls.public_key_to_der(IDENTITY_KEY), b""):
        with pytest.raises(EncodingRefused):
            parse_root_key(raw)


@given(st.integers(1, 1 << 250), st.binary(max_size=64))
@settings(max_examples=15, deadline=None)
def test_both_implementations_accept_what_is_signed(secret: int, message: bytes) -> None:
    signer = Signer(secret)
    signature = signer.sign(message)
    bls.verify(signer.public_key, signature, message)
    assert holds(signer.public_key, signature, message)


@given(st.integers(0, 383), st.booleans())
@settings(max_examples=60, deadline=None)
def test_both_implementations_refuse_a_flipped_bit(bit: int, in_key: bool) -> None:
    key, signature = bytearray(ROOT.public_key), bytearray(ROOT.sign(MESSAGE))
    changed = key if in_key else signature
    changed[bit // 8] ^= 1 << bit % 8
    assert refusal_of(bytes(key), bytes(signature)) is not None
    assert not holds(bytes(key), bytes(signature), MESSAGE)


@given(st.binary(min_size=48, max_size=48))
@settings(max_examples=60, deadline=None)
def test_both_implementations_refuse_other_bytes(signature: bytes) -> None:
    assert refusal_of(ROOT.public_key, signature) is not None
    assert not holds(ROOT.public_key, signature, MESSAGE)


def _all_vectors() -> list[dict[str, Any]]:
    if not VECTORS.is_dir():
        return []
    return json.loads((VECTORS / "index.json").read_text())["vectors"] + json.loads(
        (VECTORS / "neg" / "index.json").read_text()
    )


@pytest.mark.skipif(not VECTORS.is_dir(), reason=f"no certificate vectors at {VECTORS}")
def test_both_implementations_agree_on_every_real_certificate() -> None:
    compared = 0
    for entry in _all_vectors():
        try:
            certificate = parse_certificate((VECTORS / entry["file"]).read_bytes())
        except ConsensusRefused:
            continue
        key = MAINNET_ROOT_KEY
        delegation = certificate.delegation
        if delegation is not None:
            _agree(MAINNET_ROOT_KEY, delegation.signature, signed_bytes(delegation.tree))
            shown = lookup(delegation.tree, (b"subnet", delegation.subnet, b"public_key"))
            assert isinstance(shown, Found)
            key = bls.public_key_from_der(shown.value)
        _agree(key, certificate.signature, signed_bytes(certificate.tree))
        compared += 1
    assert compared >= 15


def _agree(key: bytes, signature: bytes, message: bytes) -> None:
    assert holds(key, signature, message) == (refusal_of(key, signature, message) is None)
