"""pack.md P14, P12: flip any single bit of a pack, and it is found, under the name of the place it is in."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from measurements.pack.errors import PackContentRefused, PackMalformed, PackRefused, PackSignatureRefused
from measurements.pack.header import SignedHeader
from measurements.pack.pack_check import verify_pack
from measurements.pack.pack_reader import open_pack
from measurements.pack.pack_writer import seal_pack
from tests.packs import KEY, SIGNER, write_folder


def verified(path: Path) -> None:
    verify_pack(path, threads=1)


def opened(path: Path) -> None:
    with open_pack(path, KEY, threads=1):
        pass


@pytest.fixture
def pack(tmp_path: Path) -> tuple[Path, SignedHeader]:
    path = tmp_path / "bits.pack"
    signed = seal_pack(write_folder(tmp_path / "model"), path, KEY, threads=1, signer=SIGNER, chunk_bytes=64)
    assert signed.header.manifest.chunks == 7
    return path, signed


def refusals(path: Path, read: Callable[[Path], None]) -> Iterator[tuple[int, PackRefused]]:
    """For every bit of the file the refusal that its flip meets; the file is whole again after each."""
    content = path.read_bytes()
    descriptor = os.open(path, os.O_RDWR)
    try:
        for place in range(8 * len(content)):
            at, bit = divmod(place, 8)
            os.pwrite(descriptor, bytes([content[at] ^ (1 << bit)]), at)
            with pytest.raises(PackRefused) as caught:
                read(path)
            os.pwrite(descriptor, content[at : at + 1], at)
            yield at, caught.value
    finally:
        os.close(descriptor)
    read(path)


@pytest.mark.parametrize("read", [verified, opened])
def test_every_flipped_bit_is_found_and_named(pack: tuple[Path, SignedHeader], read: Callable[[Path], None]):
    path, signed = pack
    first = signed.chunk_offset(0)
    for at, refusal in refusals(path, read):
        if at < signed.index_offset:
            assert isinstance(refusal, (PackMalformed, PackSignatureRefused)), at
        elif at < first:
            assert refusal.code == "pack.index", at
        else:
            assert isinstance(refusal, PackContentRefused), at
            assert (refusal.code, refusal.chunk) == ("pack.chunk", (at - first) // (64 + 16)), at
