"""Sealing: a model folder into one file, in one pass over the weights.

Every chunk is read once; on the way its Merkle leaf, its ciphertext and the digest of that are made. The header has
its place in front and is written last, when its digests are known.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from foundation.digests import DIGEST_BYTES
from foundation.secrecy import Secret
from foundation.sized import Digest32
from measurements.digests import ModelRoot
from measurements.pack.disk import whole_file, write_at
from measurements.pack.folder import Folder
from measurements.pack.header import Header, SignedHeader, chunk_digest, index_digest
from measurements.pack.keys import FILE_ID_BYTES, TAG_BYTES, ChunkCipher, derived_signing_key, key_check
from measurements.pack.pack_manifest import CHUNK_BYTES, chunk_leaf
from measurements.pack.parallel import Progress, over_chunks, silent


def seal_pack(
    folder: Path,
    out: Path,
    key: Secret,
    *,
    threads: int,
    signer: Ed25519PrivateKey | None = None,
    chunk_bytes: int = CHUNK_BYTES,
    progress: Progress = silent,
    draw: Callable[[int], bytes] = secrets.token_bytes,
) -> SignedHeader:
    """Seals `folder` into `out`, which must not exist. Without `signer`, a key derived from the pack key signs.

    `draw` gives the file id: it must never give the same bytes twice for one key. Raises `PackMalformed`, OSError.
    """
    signing = derived_signing_key(key) if signer is None else signer
    with Folder.open(folder, chunk_bytes) as source, whole_file(out) as descriptor:
        file_id, unknown = draw(FILE_ID_BYTES), Digest32(bytes(DIGEST_BYTES))
        header = Header(file_id, key_check(key, file_id), source.manifest, source.card, ModelRoot(unknown), unknown)
        pass_ = _Pass(source, descriptor, SignedHeader.sign(header, signing), key)
        over_chunks(source.manifest, threads, pass_.worker, progress)
        source.check_unchanged()
        return pass_.finish(signing)


class _Pass:
    """One pass over the chunks: what it has found so far, by chunk."""

    __slots__ = ("_cipher", "_descriptor", "_digests", "_layout", "_leaves", "_manifest", "_source")

    def __init__(self, source: Folder, descriptor: int, layout: SignedHeader, key: Secret) -> None:
        self._source = source
        self._descriptor = descriptor
        self._layout = layout
        self._manifest = source.manifest
        self._cipher = ChunkCipher(key, layout.header.file_id, source.manifest.chunks)
        self._leaves = [b""] * source.manifest.chunks
        self._digests = [b""] * source.manifest.chunks

    def worker(self) -> Callable[[int], None]:
        plain = memoryview(bytearray(self._manifest.chunk_size(0)))
        sealed = memoryview(bytearray(len(plain) + TAG_BYTES))

        def seal(index: int) -> None:
            size = self._manifest.chunk_size(index)
            content, ciphertext = plain[:size], sealed[: size + TAG_BYTES]
            self._source.read(content, index * self._manifest.chunk_bytes)
            self._leaves[index] = chunk_leaf(content)
            self._cipher.seal(index, content, ciphertext)
            self._digests[index] = chunk_digest(ciphertext)
            write_at(self._descriptor, ciphertext, self._layout.chunk_offset(index))

        return seal

    def finish(self, signing: Ed25519PrivateKey) -> SignedHeader:
        index = b"".join(self._digests)
        header = self._layout.header.with_digests(self._manifest.root(self._leaves), index_digest(index))
        signed = SignedHeader.sign(header, signing)
        write_at(self._descriptor, memoryview(signed.raw + index), 0)
        return signed
