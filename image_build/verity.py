"""The dm-verity tree of a file system: SHA-256, blocks of 4096 bytes, no superblock, behind the data it is about.

The bytes are those of `veritysetup format --no-superblock --hash-offset=SIZE`. Whoever knows the root hash can have
every block checked as it is read; who wrote the data is not established.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Final

BLOCK_BYTES: Final = 4096


@dataclass(frozen=True, slots=True)
class Verity:
    """What the command line says of a root."""

    blocks: int     # of data; the tree begins behind them
    salt: bytes
    root: bytes

    @property
    def words(self) -> str:
        return (f"anchorhold.blocks={self.blocks} anchorhold.salt={self.salt.hex()} "
                f"anchorhold.root={self.root.hex()}")


def append_tree(image: Path, salt: bytes) -> Verity:
    """Fill `image` to whole blocks and write its tree behind them, the topmost level first."""
    size = image.stat().st_size
    blocks = -(-size // BLOCK_BYTES)
    with image.open("r+b") as file:
        file.truncate(blocks * BLOCK_BYTES)
        levels = [_padded(b"".join(_hashed(file.read(BLOCK_BYTES), salt) for _ in range(blocks)))]
        while len(levels[-1]) > BLOCK_BYTES:
            below = levels[-1]
            levels.append(_padded(b"".join(
                _hashed(below[at : at + BLOCK_BYTES], salt) for at in range(0, len(below), BLOCK_BYTES)
            )))
        for level in reversed(levels):
            file.write(level)
    return Verity(blocks, salt, _hashed(levels[-1], salt))


def _hashed(block: bytes, salt: bytes) -> bytes:
    return hashlib.sha256(salt + block).digest()


def _padded(level: bytes) -> bytes:
    return level + bytes(-len(level) % BLOCK_BYTES)
