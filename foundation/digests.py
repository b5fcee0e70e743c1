"""Domain-separated SHA-256: every hash of ours says what it is a hash of.

A tag is one length byte and ASCII text, as the Internet Computer writes its own separators, so a canister
computes the same digest with the same few lines. See docs/spec/encoding.md C9.
"""

from __future__ import annotations

import hashlib
from functools import lru_cache

from foundation.sized import DIGEST_BYTES, Digest32

__all__ = ["DIGEST_BYTES", "domain", "tagged_sha256"]


def domain(tag: str) -> bytes:
    """The separator for `tag`: one length byte, then the ASCII text."""
    text = tag.encode("ascii")
    if not 1 <= len(text) <= 255:
        raise ValueError(f"a domain tag is 1 to 255 ASCII characters, got {len(text)}")
    return bytes([len(text)]) + text


@lru_cache(maxsize=256)
def _begun(tag: str) -> hashlib._Hash:
    """Made once and then copied: to begin a hash costs several times what going on with one does."""
    return hashlib.sha256(domain(tag))


def tagged_sha256(tag: str, *parts: bytes) -> Digest32:
    """SHA-256 over the domain separator of `tag` and then every part, without separators in between."""
    digest = _begun(tag).copy()
    for part in parts:
        digest.update(part)
    return Digest32(digest.digest())
