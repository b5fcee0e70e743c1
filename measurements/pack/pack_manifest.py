"""The manifest: which files a model has, where each lies in the plaintext, and the root over all of it.

The plaintext of a pack is one stream: the files in the order of their names, zero bytes between them, so placed that
the data of every weights file begins at a multiple of 64. It is cut into chunks of one size. The *model root* is the
Merkle tree hash (RFC 9162) over the manifest and then every chunk: it names the model, whoever sealed it and under
whatever key.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Final, Self

from foundation import cbor, merkle
from foundation.digests import domain
from foundation.refusal import outline, shown
from measurements.digests import ModelRoot
from measurements.pack.errors import PackMalformed
from measurements.pack.files import check_names

ALIGNMENT: Final = 64
CHUNK_BYTES: Final = 4 << 20
CHUNK_BYTES_MIN: Final = 64
CHUNKS_MAX: Final = 1 << 19
"""2 TiB in chunks of 4 MiB; bounds what index and Merkle leaves take."""
FILES_MAX: Final = 4096
MODEL_TAG: Final = "anchorhold/model/v1"


@dataclass(frozen=True, slots=True)
class Placed:
    """One file in the stream."""

    name: str
    offset: int
    size: int

    @property
    def end(self) -> int:
        return self.offset + self.size


@dataclass(frozen=True, slots=True)
class Manifest:
    """The files, in order of name and of place."""

    chunk_bytes: int
    files: tuple[Placed, ...]

    @classmethod
    def lay_out(cls, files: Iterable[tuple[str, int, int]], chunk_bytes: int) -> Self:
        """Places files given as (name, size, size of what comes before the aligned part)."""
        at, placed = 0, []
        for name, size, head in sorted(files):
            at += -(at + head) % ALIGNMENT
            placed.append(Placed(name, at, size))
            at += size
        return cls.checked(chunk_bytes, tuple(placed))

    @classmethod
    def of(cls, value: object) -> Self:
        """From the decoded header. Raises `PackMalformed` alone."""
        if not isinstance(value, list) or len(value) != 2 or not isinstance(value[1], list):
            raise PackMalformed("pack.manifest", expected="[chunk bytes, files]", got=type(value).__name__)
        if len(value[1]) > FILES_MAX:
            raise PackMalformed("pack.manifest", expected=f"at most {FILES_MAX} files", got=len(value[1]))
        return cls.checked(_natural(value[0]), tuple(_placed(item) for item in value[1]))

    @classmethod
    def checked(cls, chunk_bytes: int, files: tuple[Placed, ...]) -> Self:
        """pack.md P4, P7: the names a pack has, in order, one after the other, hardly a gap."""
        if not CHUNK_BYTES_MIN <= chunk_bytes <= CHUNK_BYTES or chunk_bytes & (chunk_bytes - 1):
            raise PackMalformed(
                "pack.chunk-bytes", expected=f"a power of two from {CHUNK_BYTES_MIN} to {CHUNK_BYTES}", got=chunk_bytes
            )
        names = [file.name for file in files]
        if names != sorted(set(names)) or len(files) > FILES_MAX:
            raise PackMalformed("pack.manifest", expected="each name once, in order", got=f"{len(names)} names")
        check_names(names)
        at = 0
        for file in files:
            if not file.size or not at <= file.offset < at + ALIGNMENT:
                raise PackMalformed(
                    "pack.manifest",
                    expected=f"{file.name} soon after byte {at}, not empty",
                    got=f"byte {file.offset}, {file.size} bytes",
                )
            at = file.end
        manifest = cls(chunk_bytes, files)
        if manifest.chunks > CHUNKS_MAX:
            raise PackMalformed("pack.manifest", expected=f"at most {CHUNKS_MAX} chunks", got=manifest.chunks)
        return manifest

    @property
    def plain_bytes(self) -> int:
        return self.files[-1].end

    @property
    def chunks(self) -> int:
        return -(-self.plain_bytes // self.chunk_bytes)

    def chunk_size(self, index: int) -> int:
        return min(self.chunk_bytes, self.plain_bytes - index * self.chunk_bytes)

    def plain(self) -> list[cbor.Encodable]:
        """As it is encoded."""
        return [self.chunk_bytes, [[file.name, file.offset, file.size] for file in self.files]]

    def root(self, leaves: Sequence[bytes]) -> ModelRoot:
        """The model root, from the leaf of every chunk (pack.md P9)."""
        return ModelRoot(merkle.root([merkle.leaf(domain(MODEL_TAG) + cbor.encode(self.plain())), *leaves]))


def chunk_leaf(plaintext: memoryview) -> bytes:
    """The Merkle leaf of a chunk, without a copy of it."""
    digest = sha256(merkle.LEAF)
    digest.update(plaintext)
    return digest.digest()


def _placed(value: object) -> Placed:
    if not isinstance(value, list) or len(value) != 3 or not isinstance(value[0], str):
        raise PackMalformed("pack.manifest", expected="[name, offset, size]", got=outline(value))
    return Placed(value[0], _natural(value[1]), _natural(value[2]))


def _natural(value: object) -> int:
    if type(value) is not int or not 0 <= value < 1 << 63:
        raise PackMalformed("pack.manifest", expected="an integer from 0 to 2^63-1", got=shown(value))
    return value
