"""Verifying a pack without its key: every bit of the file is what was signed, or the first that is not has a name.

What it does not establish: that the plaintext has the model root the header states. The signer says so; opening
proves it.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from foundation.digests import DIGEST_BYTES
from measurements.pack.disk import length_of, read_at
from measurements.pack.errors import PackContentRefused, PackMalformed
from measurements.pack.header import PREFIX_BYTES, SignedHeader, chunk_digest, envelope_bytes, index_digest
from measurements.pack.pack_manifest import Manifest
from measurements.pack.parallel import Progress, over_chunks, silent


@dataclass(frozen=True, slots=True)
class PackFile:
    """A pack on disk whose header is signed, whose length is right and whose index is the signed one."""

    descriptor: int
    signed: SignedHeader
    index: bytes

    @classmethod
    @contextmanager
    def open(cls, path: Path, *, signer: bytes | None = None) -> Iterator[Self]:
        """Raises the family of `PackRefused`, and OSError."""
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            signed = _signed_header(descriptor)
            if signer is not None:
                signed.check_signer(signer)
            _check_length(signed, *length_of(descriptor))
            yield cls(descriptor, signed, _index(descriptor, signed))
        finally:
            os.close(descriptor)

    @property
    def manifest(self) -> Manifest:
        return self.signed.header.manifest

    def expected_digest(self, index: int) -> bytes:
        return self.index[DIGEST_BYTES * index : DIGEST_BYTES * (index + 1)]

    def read_chunk(self, index: int, buffer: memoryview) -> memoryview:
        """The ciphertext of a chunk, in `buffer`."""
        ciphertext = buffer[: self.signed.sealed_size(index)]
        if read_at(self.descriptor, ciphertext, self.signed.chunk_offset(index)) != len(ciphertext):
            raise PackContentRefused(
                "pack.truncated", expected=f"all of chunk {index}", got="the end of the file inside it", chunk=index
            )
        return ciphertext

    def refuse_chunk(self, index: int, ciphertext: memoryview) -> PackContentRefused:
        """Says what came in the place of chunk `index`."""
        found, size = chunk_digest(ciphertext), DIGEST_BYTES
        other = next((n for n in range(self.manifest.chunks) if self.index[n * size : (n + 1) * size] == found), None)
        if other is None:
            return PackContentRefused(
                "pack.chunk",
                expected=f"chunk {index} of {self.manifest.chunks} as it was sealed",
                got="altered bytes",
                chunk=index,
            )
        return PackContentRefused(
            "pack.chunk-order", expected=f"chunk {index} in its place", got=f"chunk {other}", chunk=index
        )


def inspect_pack(path: Path) -> SignedHeader:
    """The signed header alone; says nothing of the chunks. Raises the family of `PackRefused`, and OSError."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return _signed_header(descriptor)
    finally:
        os.close(descriptor)


def verify_pack(path: Path, *, threads: int, signer: bytes | None = None, progress: Progress = silent) -> SignedHeader:
    """pack.md P14: every bit of the file, and the signer if one is named. Raises as `inspect_pack`."""
    with PackFile.open(path, signer=signer) as pack:

        def worker() -> Callable[[int], None]:
            buffer = memoryview(bytearray(pack.signed.sealed_size(0)))

            def check(index: int) -> None:
                ciphertext = pack.read_chunk(index, buffer)
                if chunk_digest(ciphertext) != pack.expected_digest(index):
                    raise pack.refuse_chunk(index, ciphertext)

            return check

        over_chunks(pack.manifest, threads, worker, progress)
        return pack.signed


def _signed_header(descriptor: int) -> SignedHeader:
    prefix = _read(descriptor, 0, PREFIX_BYTES)
    size = envelope_bytes(prefix)
    return SignedHeader.parse(prefix + _read(descriptor, PREFIX_BYTES, size))


def _read(descriptor: int, offset: int, size: int) -> bytes:
    into = bytearray(size)
    if (found := read_at(descriptor, memoryview(into), offset)) != size:
        raise PackMalformed("pack.truncated", expected=f"{size} bytes from byte {offset}", got=found)
    return bytes(into)


def _check_length(signed: SignedHeader, size: int, spare: int = 0) -> None:
    """pack.md P3: the file ends where the header says; a disk, at most `spare` bytes behind it."""
    if signed.file_bytes <= size <= signed.file_bytes + spare:
        return
    expected = f"{signed.file_bytes} bytes"
    if size > signed.file_bytes:
        raise PackContentRefused("pack.trailing", expected=expected, got=f"{size - signed.file_bytes} more bytes")
    first, chunks = signed.chunk_offset(0), signed.header.manifest.chunks
    if size < first:
        raise PackContentRefused("pack.truncated", expected=expected, got=f"{size}, ending in the chunk index")
    chunk = min(chunks - 1, (size - first) // (signed.chunk_offset(1) - first))
    raise PackContentRefused("pack.truncated", expected=expected, got=f"{size}, ending in chunk {chunk}", chunk=chunk)


def _index(descriptor: int, signed: SignedHeader) -> bytes:
    index = _read(descriptor, signed.index_offset, signed.index_bytes)
    if index_digest(index) != signed.header.index_digest:
        raise PackContentRefused(
            "pack.index", expected="the chunk index as it was signed", got=f"digest {index_digest(index).hex()}"
        )
    return index
