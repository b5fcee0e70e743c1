"""The start of a pack: magic, the signed header, and after it the chunk index.

    "anchorhold-pack\\n"   16 bytes
    length                 4 bytes, big-endian
    envelope               COSE_Sign1 (RFC 9052), deterministic CBOR, Ed25519
    index                  32 bytes for each chunk: the digest of its ciphertext
    chunks                 each ciphertext and tag, one after the other, to the end of the file

The header commits to the index, the index to every chunk, the sizes to the length of the file: one signature covers
every bit. A `SignedHeader` exists only where that signature was checked or just made.

What it does not establish: who the signer is. That is for whoever compares `signer` with a key they know.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from hashlib import sha256
from typing import Final, Self

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from foundation import cbor, ed25519
from foundation.cose import CoseRefused, Sign1
from foundation.digests import DIGEST_BYTES, domain, tagged_sha256
from foundation.refusal import outline, shown
from measurements.digests import ModelRoot
from measurements.pack.card import Card, digest
from measurements.pack.errors import PackMalformed, PackSignatureRefused
from measurements.pack.keys import TAG_BYTES
from measurements.pack.pack_manifest import Manifest

MAGIC: Final = b"anchorhold-pack\n"
LENGTH_BYTES: Final = 4
PREFIX_BYTES: Final = len(MAGIC) + LENGTH_BYTES
ENVELOPE_BYTES_MAX: Final = 1 << 20
VERSION: Final = 1
INDEX_TAG: Final = "anchorhold/pack-index/v1"
CHUNK_TAG: Final = "anchorhold/pack-chunk/v1"
SIGNATURE_TAG: Final = "anchorhold/pack/v1"

_LIMITS: Final = cbor.Limits(bytes_max=ENVELOPE_BYTES_MAX, depth_max=8, items_max=1 << 16)
_FIELDS: Final = frozenset({"version", "file_id", "key_check", "manifest", "card", "model_root", "index_digest"})


@dataclass(frozen=True, slots=True)
class Header:
    """What is signed."""

    file_id: bytes
    key_check: bytes
    manifest: Manifest
    card: Card
    model_root: ModelRoot
    index_digest: bytes

    @classmethod
    def parse(cls, payload: bytes) -> Self:
        """Raises `PackMalformed` alone."""
        value = _decoded(payload)
        if not isinstance(value, dict) or value.keys() != _FIELDS:
            raise PackMalformed("pack.header", expected=f"a map of {', '.join(sorted(_FIELDS))}", got=outline(value))
        if type(value["version"]) is not int or value["version"] != VERSION:
            raise PackMalformed("pack.version", expected=VERSION, got=str(value["version"])[:32])
        return cls(
            digest("file-id", value["file_id"]),
            digest("key-check", value["key_check"]),
            Manifest.of(value["manifest"]),
            Card.of(value["card"]),
            ModelRoot(digest("model-root", value["model_root"])),
            digest("index-digest", value["index_digest"]),
        )

    def encode(self) -> bytes:
        card: dict[str, cbor.Encodable] = {**self.card.plain()}
        return cbor.encode(
            {
                "version": VERSION,
                "file_id": self.file_id,
                "key_check": self.key_check,
                "card": card,
                "manifest": self.manifest.plain(),
                "model_root": self.model_root,
                "index_digest": self.index_digest,
            }
        )

    def with_digests(self, model_root: ModelRoot, index_digest: bytes) -> Self:
        """The same header, its digests filled in: as long as before."""
        return replace(self, model_root=model_root, index_digest=index_digest)


@dataclass(frozen=True, slots=True)
class SignedHeader:
    """A header whose signature holds, and where in the file things are."""

    header: Header
    signer: bytes
    raw: bytes
    """Everything before the index."""

    @classmethod
    def sign(cls, header: Header, key: Ed25519PrivateKey) -> Self:
        signer = key.public_key().public_bytes_raw()
        envelope = Sign1.sign(header.encode(), key, key_id=signer, context=domain(SIGNATURE_TAG)).encode()
        if len(envelope) > ENVELOPE_BYTES_MAX:
            raise PackMalformed("pack.header", expected=f"at most {ENVELOPE_BYTES_MAX} bytes", got=len(envelope))
        return cls(header, signer, MAGIC + len(envelope).to_bytes(LENGTH_BYTES, "big") + envelope)

    @classmethod
    def parse(cls, raw: bytes) -> Self:
        """pack.md P2, P3. Raises `PackMalformed` and `PackSignatureRefused`, nothing else."""
        size = envelope_bytes(raw[:PREFIX_BYTES])
        if len(raw) != PREFIX_BYTES + size:
            raise PackMalformed("pack.truncated", expected=f"{size} bytes of header", got=len(raw) - PREFIX_BYTES)
        envelope = _envelope(raw[PREFIX_BYTES:])
        signer = envelope.key_id
        if (expected := ed25519.expected_instead(signer)) is not None:
            raise PackSignatureRefused("pack.signer", expected=expected, got=signer.hex())
        if not envelope.is_signed_by(signer):
            raise PackSignatureRefused(
                "pack.signature",
                expected=f"the header signed by {signer.hex()}",
                got="a signature that does not verify",
            )
        return cls(Header.parse(envelope.payload), signer, raw)

    def check_signer(self, expected: bytes) -> None:
        if self.signer != expected:
            raise PackSignatureRefused("pack.signer", expected=expected.hex(), got=self.signer.hex())

    @property
    def index_offset(self) -> int:
        return len(self.raw)

    @property
    def index_bytes(self) -> int:
        return DIGEST_BYTES * self.header.manifest.chunks

    @property
    def file_bytes(self) -> int:
        manifest = self.header.manifest
        return self.chunk_offset(0) + manifest.plain_bytes + TAG_BYTES * manifest.chunks

    def chunk_offset(self, index: int) -> int:
        """Where in the file a chunk begins."""
        return self.index_offset + self.index_bytes + index * (self.header.manifest.chunk_bytes + TAG_BYTES)

    def sealed_size(self, index: int) -> int:
        return self.header.manifest.chunk_size(index) + TAG_BYTES


def envelope_bytes(prefix: bytes) -> int:
    """The length of the envelope, refused before anything is read for it."""
    if len(prefix) != PREFIX_BYTES or not prefix.startswith(MAGIC):
        raise PackMalformed("pack.magic", expected=repr(MAGIC.decode()), got=shown(prefix))
    size = int.from_bytes(prefix[len(MAGIC) :], "big")
    if size > ENVELOPE_BYTES_MAX:
        raise PackMalformed("pack.header", expected=f"at most {ENVELOPE_BYTES_MAX} bytes", got=size)
    return size


def index_digest(index: bytes) -> bytes:
    return tagged_sha256(INDEX_TAG, index)


def chunk_digest(ciphertext: memoryview) -> bytes:
    """What the index holds of a chunk (pack.md P11)."""
    digest_of = sha256(domain(CHUNK_TAG))
    digest_of.update(ciphertext)
    return digest_of.digest()


def _decoded(data: bytes) -> object:
    try:
        return cbor.decode(data, _LIMITS)
    except cbor.CborRefused as refusal:
        raise PackMalformed("pack.header", expected="deterministic CBOR", got=refusal.code) from None


def _envelope(data: bytes) -> Sign1:
    try:
        return Sign1.parse(data, bytes_max=ENVELOPE_BYTES_MAX, context=domain(SIGNATURE_TAG))
    except CoseRefused as refusal:
        code = "pack.header" if refusal.code == "encoding" else "pack.envelope"
        raise PackMalformed(code, expected=refusal.expected, got=refusal.got) from None
