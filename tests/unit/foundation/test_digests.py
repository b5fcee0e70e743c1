"""Domain tags (docs/spec/encoding.md C9): a digest of one thing is never a digest of another."""

from __future__ import annotations

import hashlib

import hypothesis.strategies as st
import pytest
from hypothesis import given

from foundation.digests import domain, tagged_sha256

TAGS = st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=1, max_size=255)


def test_a_tag_is_its_length_and_its_text() -> None:
    assert domain("anchorhold/link/v1") == b"\x12anchorhold/link/v1"
    assert tagged_sha256("a", b"b", b"c") == hashlib.sha256(b"\x01abc").digest()


@pytest.mark.parametrize("tag", ["", "x" * 256])
def test_a_tag_has_1_to_255_characters(tag: str) -> None:
    with pytest.raises(ValueError, match="1 to 255"):
        domain(tag)


def test_a_tag_is_ascii() -> None:
    with pytest.raises(UnicodeEncodeError):
        domain("schlüssel")


@given(TAGS, TAGS, st.binary(max_size=40), st.binary(max_size=40))
def test_two_tags_never_hash_the_same_bytes(one: str, other: str, left: bytes, right: bytes) -> None:
    """The length byte makes the separator prefix-free: what follows cannot make up for another tag."""
    assert (domain(one) + left == domain(other) + right) == (one == other and left == right)
