"""The dm-verity tree of a file system: SHA-256, blocks of 4096 bytes, no superblock, behind the data it is about.

The bytes are those of `veritysetup format --no-superblock --hash-offset=SIZE`. Whoever knows the root hash can have
every block checked as it is read; who wrote the data is not established.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

from image_build.errors import ImageRefused

BLOCK_BYTES: Final = 4096
SECTOR_BYTES: Final = 512
DISK: Final = "/dev/vda"  # the first disk that the host gives; what is on it is proven block by block
_WORDS: Final = re.compile(
    rf'dm-mod\.create="root,,,ro,0 ([1-9][0-9]*) verity 1 {DISK} {DISK} {BLOCK_BYTES} {BLOCK_BYTES} ([1-9][0-9]*) '
    r'([1-9][0-9]*) sha256 ([0-9a-f]{64}) ([0-9a-f]{64}) 1 restart_on_corruption" '
    r"root=/dev/dm-0 ro rootfstype=erofs"
)


@dataclass(frozen=True, slots=True)
class Verity:
    """What the command line says of a root."""

    blocks: int  # of data; the tree begins behind them
    salt: bytes
    root: bytes

    @property
    def words(self) -> str:
        """As the kernel sets it up, before anything of the disk is used (image.md I7)."""
        return (
            f'dm-mod.create="root,,,ro,0 {self.blocks * BLOCK_BYTES // SECTOR_BYTES} verity 1 {DISK} {DISK} '
            f"{BLOCK_BYTES} {BLOCK_BYTES} {self.blocks} {self.blocks} sha256 {self.root.hex()} {self.salt.hex()} "
            '1 restart_on_corruption" root=/dev/dm-0 ro rootfstype=erofs'
        )

    @classmethod
    def read(cls, command_line: str) -> Self:
        """Out of a command line that has these words once, in this form. Raises `ImageRefused`."""
        found = _WORDS.findall(command_line)
        if len(found) != 1 or command_line.count("dm-mod.") != 1:
            raise ImageRefused("verity.words", expected="dm-mod.create for one root, once", got=f"{len(found)} of it")
        sectors, blocks, hashed_at, root, salt = found[0]
        made = cls(int(blocks), bytes.fromhex(salt), bytes.fromhex(root))
        if hashed_at != blocks or int(sectors) * SECTOR_BYTES != made.blocks * BLOCK_BYTES:
            raise ImageRefused(
                "verity.words",
                expected="a tree directly behind its blocks",
                got=f"{sectors} sectors, {blocks} blocks, hashes at {hashed_at}",
            )
        return made


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
