"""Opening: a pack into memory that an engine maps, proven on the way.

    with open_pack(path, key, expected=Expected(model_root=root), threads=2) as opened:
        opened.tensors()["model.embed.weight"].data      # a read-only view, no copy

Chunks are read, decrypted straight to their place and hashed there, several at a time; memory is the model and two
buffers' worth for each thread. An `OpenedPack` is made here alone, once everything held: signature, length, index,
key, every chunk, model root, the kind of every file, and the card against the files.

What it does not establish: that the model is any good, or who may run it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from foundation.secrecy import Secret
from measurements.pack.arena import Arena
from measurements.pack.card import Card
from measurements.pack.contents import measure
from measurements.pack.errors import PackContentRefused
from measurements.pack.files import Kind, kind_of
from measurements.pack.header import SignedHeader
from measurements.pack.identity import Expected, Identity, check_expected
from measurements.pack.keys import ChunkCipher, check_key
from measurements.pack.pack_check import PackFile
from measurements.pack.pack_manifest import ALIGNMENT, Manifest, Placed, chunk_leaf
from measurements.pack.parallel import Progress, over_chunks, silent
from measurements.pack.safetensors import LENGTH_BYTES, SafetensorsHeader, header_bytes

_SEAL: Final = object()


@dataclass(frozen=True, slots=True)
class TensorView:
    """A tensor where it lies in memory."""

    dtype: str
    shape: tuple[int, ...]
    data: memoryview


class OpenedPack:
    """A proven model in memory. Views stay good as long as they are held, also past the end of the block."""

    __slots__ = ("_arena", "_weights", "signed")

    def __init__(
        self, seal: object, signed: SignedHeader, arena: Arena, weights: Mapping[str, SafetensorsHeader]
    ) -> None:
        if seal is not _SEAL:
            raise TypeError("an OpenedPack comes from open_pack alone")
        self.signed = signed
        self._arena = arena
        self._weights = weights

    @property
    def identity(self) -> Identity:
        return Identity.of(self.signed)

    @property
    def card(self) -> Card:
        return self.signed.header.card

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(file.name for file in self.signed.header.manifest.files)

    def file(self, name: str) -> memoryview:
        """A file's bytes. KeyError if there is none of that name."""
        for placed in self.signed.header.manifest.files:
            if placed.name == name:
                return self._arena.view[placed.offset : placed.end]
        raise KeyError(name)

    def tensors(self) -> dict[str, TensorView]:
        """Every tensor by name."""
        found = {}
        for name, header in self._weights.items():
            data = self.file(name)[header.head_bytes :]
            for tensor in header.tensors:
                found[tensor.name] = TensorView(tensor.dtype, tensor.shape, data[tensor.begin : tensor.end])
        return found


@contextmanager
def open_pack(
    path: Path, key: Secret, *, threads: int, expected: Expected | None = None, progress: Progress = silent
) -> Iterator[OpenedPack]:
    """The model of a pack, for the length of the block. Raises the family of `PackRefused`, and OSError."""
    with PackFile.open(path) as pack:
        header = pack.signed.header
        if expected is not None:  # before the work: what the header says is signed, and proven below
            check_expected(Identity.of(pack.signed), expected)
        check_key(key, header.file_id, header.key_check)
        arena = Arena(pack.manifest.plain_bytes)
        try:
            _fill(pack, key, arena.view, threads, progress=progress)
            weights = _proven(header.card, pack.manifest, arena.view)
            arena.freeze()
        except BaseException:
            arena.close()
            raise
    try:
        yield OpenedPack(_SEAL, pack.signed, arena, weights)
    finally:
        arena.close()


def _fill(pack: PackFile, key: Secret, into: memoryview, threads: int, *, progress: Progress) -> None:
    """pack.md P12: every chunk to its place, and the model root over what is then there."""
    manifest = pack.manifest
    cipher = ChunkCipher(key, pack.signed.header.file_id, manifest.chunks)
    leaves = [b""] * manifest.chunks

    def worker() -> Callable[[int], None]:
        buffer = memoryview(bytearray(pack.signed.sealed_size(0)))

        def open_chunk(index: int) -> None:
            ciphertext = pack.read_chunk(index, buffer)
            begin = index * manifest.chunk_bytes
            place = into[begin : begin + manifest.chunk_size(index)]
            if not cipher.open(index, ciphertext, place):
                raise pack.refuse_chunk(index, ciphertext)
            leaves[index] = chunk_leaf(place)

        return open_chunk

    over_chunks(manifest, threads, worker, progress)
    if (root := manifest.root(leaves)) != pack.signed.header.model_root:
        raise PackContentRefused("pack.model-root", expected=pack.signed.header.model_root.hex(), got=root.hex())


def _proven(card: Card, manifest: Manifest, content: memoryview) -> dict[str, SafetensorsHeader]:
    """The files are of their kinds, where they belong, and what the card says of them is so."""
    small, weights, at = {}, {}, 0
    for placed in manifest.files:
        view, head = content[placed.offset : placed.end], 0
        if kind_of(placed.name) is Kind.WEIGHTS:
            weights[placed.name] = _weights(placed, view)
            head = weights[placed.name].head_bytes
        else:
            small[placed.name] = bytes(view)
        if (placed.offset + head) % ALIGNMENT or any(content[at : placed.offset]):
            raise PackContentRefused(
                "pack.layout",
                expected=f"{placed.name} aligned, behind zero bytes",
                got=f"offset {placed.offset + head}, or bytes before it that are not zero",
            )
        at = placed.end
    measured = measure(small, weights)
    for name in ("parameters", "dtypes", "config", "tokenizer", "template"):
        wanted, found = getattr(card.measured, name), getattr(measured, name)
        if wanted != found:
            raise PackContentRefused(f"pack.card.{name}", expected=_shown(wanted), got=_shown(found))
    return weights


def _weights(placed: Placed, view: memoryview) -> SafetensorsHeader:
    head = LENGTH_BYTES + header_bytes(bytes(view[:LENGTH_BYTES]), placed.size, what=placed.name)
    return SafetensorsHeader.parse(bytes(view[:head]), placed.size, what=placed.name)


def _shown(value: object) -> str:
    return value.hex() if isinstance(value, bytes) else str(value)
