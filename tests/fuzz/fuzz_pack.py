"""Invariant: whatever the bytes, the start of a pack parses or is refused with PackMalformed or PackSignatureRefused;
what is signed encodes to exactly the payload it came from; and a payload on its own parses to what encodes to it, or
is refused with PackMalformed.
"""

from __future__ import annotations

from foundation import cbor
from measurements.pack.errors import PackMalformed, PackSignatureRefused
from measurements.pack.header import PREFIX_BYTES, Header, SignedHeader, envelope_bytes
from measurements.pack.pack_manifest import Manifest
from tests.packs import SIGNER, Forge

_PACK = Forge().build()
_START = _PACK[: PREFIX_BYTES + envelope_bytes(_PACK[:PREFIX_BYTES])]
_SIGNED = SignedHeader.parse(_START)

SEEDS: list[bytes] = [_START, _PACK, _SIGNED.header.encode(), b"", b"\xa0"]


def one_input(data: bytes) -> None:
    _start(data)
    _payload(data)


def _start(data: bytes) -> None:
    try:
        size = envelope_bytes(data[:PREFIX_BYTES])
        signed = SignedHeader.parse(data[: PREFIX_BYTES + size])
    except (PackMalformed, PackSignatureRefused):
        return
    assert signed.header.encode() in signed.raw
    assert signed.raw == data[: PREFIX_BYTES + size]


def _payload(data: bytes) -> None:
    """Past the signature, which no fuzzer forges: whoever holds a signing key writes this."""
    try:
        header = Header.parse(data)
    except PackMalformed:
        return
    assert header.encode() == data
    assert Manifest.of(cbor.decode(cbor.encode(header.manifest.plain()))) == header.manifest
    signed = SignedHeader.sign(header, SIGNER)
    assert SignedHeader.parse(signed.raw) == signed
    last = header.manifest.chunks - 1
    assert signed.chunk_offset(last) + signed.sealed_size(last) == signed.file_bytes
    assert 0 < header.manifest.chunk_size(last) <= header.manifest.chunk_bytes
