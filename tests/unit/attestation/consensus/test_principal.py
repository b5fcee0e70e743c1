"""Principals: one text each, checksum and all."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from attestation.consensus import principal
from attestation.consensus.refusals import EncodingRefused

# Well-known ones: the management canister, the registry, the ledger, and the anonymous user.
KNOWN = [
    (b"", "aaaaa-aa"),
    (bytes.fromhex("00000000000000000101"), "rwlgt-iiaaa-aaaaa-aaaaa-cai"),
    (bytes.fromhex("00000000000000020101"), "ryjl3-tyaaa-aaaaa-aaaba-cai"),
    (b"\x04", "2vxsx-fae"),
]


@pytest.mark.parametrize(("raw", "text"), KNOWN)
def test_known_principals_both_ways(raw: bytes, text: str) -> None:
    # certificates.md K3
    assert principal.to_text(raw) == text
    assert principal.from_text(text) == raw


@given(st.binary(max_size=29))
def test_text_and_back_is_the_same(raw: bytes) -> None:
    assert principal.from_text(principal.to_text(raw)) == raw


@given(st.text(max_size=70))
def test_any_text_is_refused_or_the_only_spelling(text: str) -> None:
    try:
        raw = principal.from_text(text)
    except EncodingRefused:
        return
    assert principal.to_text(raw) == text


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("ryjl3-tyaaa-aaaaa-aaaca-cai", "principal.checksum"),
        ("ryjl3-tyaaa-aaaaa-aaaba-caj", "principal.text"),
        ("syjl3-tyaaa-aaaaa-aaaba-cai", "principal.checksum"),
        ("RYJL3-TYAAA-AAAAA-AAABA-CAI", "principal.text"),
        ("ryjl3tyaaa-aaaaa-aaaba-cai", "principal.text"),
        ("ryjl3-tyaaa-aaaaa-aaaba-cai-", "principal.text"),
        ("ryjl3-tyaaa-aaaaa-aaaba-ca1", "principal.text"),
        ("", "principal.text"),
        ("a", "principal.text"),
        ("é", "principal.text"),
        ("a" * 64, "principal.text"),
    ],
)
def test_every_other_spelling_is_refused(text: str, code: str) -> None:
    with pytest.raises(EncodingRefused) as caught:
        principal.from_text(text)
    assert caught.value.code == code


def test_thirty_bytes_are_no_principal() -> None:
    with pytest.raises(EncodingRefused):
        principal.to_text(bytes(30))
