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

    blocks: int  # of data; the tree begins behind them
    salt: bytes
    root: bytes

    @property
    def words(self) -> str:
        return f"anchorhold.blocks={self.blocks} anchorhold.salt={self.salt.hex()} anchorhold.root={self.root.hex()}"


def append_tree(image: Path, salt: bytes) -> Verity:
    """Fill `image` to whole blocks and write its tree behind them."""
    data = image.read_bytes()
    data += bytes(-len(data) % BLOCK_BYTES)
    tree, root = tree_over(data, salt)
    image.write_bytes(data + tree)
    return Verity(len(data) // BLOCK_BYTES, salt, root)


def tree_over(data: bytes, salt: bytes) -> tuple[bytes, bytes]:
    """The levels of the tree, the topmost first, and the root hash. `data` is whole blocks."""
    levels, below = list[bytes](), data
    while len(below) > BLOCK_BYTES:
        below = _level(below, salt)
        levels.append(below)
    return b"".join(reversed(levels)), _hashed(below, salt)


def _level(below: bytes, salt: bytes) -> bytes:
    level = b"".join(_hashed(below[at : at + BLOCK_BYTES], salt) for at in range(0, len(below), BLOCK_BYTES))
    return level + bytes(-len(level) % BLOCK_BYTES)


def _hashed(block: bytes, salt: bytes) -> bytes:
    return hashlib.sha256(salt + block).digest()
