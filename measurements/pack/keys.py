"""Keys: read from files, derived for one pack, used for its chunks.

    pack key (32 bytes, the broker's to release) and file id  --HKDF-SHA256-->  chunk key, key check
    pack key                                                  --HKDF-SHA256-->  signing seed, if no other key signs

A file id is drawn once per pack, so a chunk key serves one pack and nonces may count. The key check lets a wrong key
be told from a damaged pack; AES-GCM alone would not show the difference.
"""

from __future__ import annotations

import hmac
import os
import re
import stat
from pathlib import Path
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from foundation.digests import domain
from foundation.secrecy import Secret
from measurements.pack.errors import PackKeyRefused

KEY_BYTES: Final = 32
FILE_ID_BYTES: Final = 32
TAG_BYTES: Final = 16
NONCE_BYTES: Final = 12

_HEX: Final = re.compile(rb"[0-9a-f]{64}\n?")


def read_key(path: Path) -> Secret:
    """A key from a file: 64 hexadecimal digits, a regular file of ours that nobody else may read."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    with open(descriptor, "rb") as file:  # noqa: PTH123  # a descriptor, opened so that no link is followed
        about = os.fstat(descriptor)
        if not stat.S_ISREG(about.st_mode):
            raise PackKeyRefused(
                "key.file", expected=f"{path.name} to be a regular file", got=f"mode {about.st_mode:#o}"
            )
        if about.st_uid != os.geteuid():
            raise PackKeyRefused(
                "key.owner", expected=f"{path.name} to be owned by this user", got=f"user {about.st_uid}"
            )
        if about.st_mode & 0o077:
            raise PackKeyRefused(
                "key.permissions",
                expected=f"{path.name} readable by its owner alone",
                got=f"mode {stat.S_IMODE(about.st_mode):04o}",
                hint=f"chmod 600 {path.name}",
            )
        raw = file.read(66)
    return parse_key(raw, path.name)


def parse_key(raw: bytes, called: str) -> Secret:
    """The key that a key file's bytes are; `called` is for people. Raises `PackKeyRefused`."""
    if not _HEX.fullmatch(raw):
        hint = f"xxd -p -c 64 {called} writes raw bytes so" if len(raw) == KEY_BYTES else None
        raise PackKeyRefused(
            "key.form",
            expected=f"64 lower-case hexadecimal digits in {called}",
            got=f"{len(raw)} bytes of another form",
            hint=hint,
        )
    return Secret(bytes.fromhex(raw.decode()))


def signing_key(seed: Secret) -> Ed25519PrivateKey:
    return Ed25519PrivateKey.from_private_bytes(seed.lend())


def derived_signing_key(key: Secret) -> Ed25519PrivateKey:
    """Signs where no publisher does: its signature says "somebody who held the pack key"."""
    return Ed25519PrivateKey.from_private_bytes(_derived(key, b"", "anchorhold/pack-signer/v1").lend())


def key_check(key: Secret, file_id: bytes) -> bytes:
    """What the signed header keeps to tell the right key; says nothing of the key itself."""
    return _derived(key, file_id, "anchorhold/pack-key-check/v1").reveal()


def check_key(key: Secret, file_id: bytes, expected: bytes) -> None:
    """pack.md P13. Raises `PackKeyRefused`."""
    if not hmac.compare_digest(key_check(key, file_id), expected):
        raise PackKeyRefused("key.wrong", expected="the key this pack was sealed with", got="another key")


class ChunkCipher:
    """AES-256-GCM over the chunks of one pack (pack.md P10). Safe to use from many threads."""

    __slots__ = ("_aead", "_bound")

    def __init__(self, key: Secret, file_id: bytes, total: int) -> None:
        self._aead = AESGCM(_derived(key, file_id, "anchorhold/pack-chunks/v1").lend())
        self._bound = (file_id, total.to_bytes(8, "big"))

    def seal(self, index: int, plaintext: memoryview, into: memoryview) -> None:
        self._aead.encrypt_into(_nonce(index), plaintext, self._about(index), into)

    def open(self, index: int, ciphertext: memoryview, into: memoryview) -> bool:
        """False if these are not the bytes sealed as chunk `index`; `into` then holds nothing of worth."""
        try:
            self._aead.decrypt_into(_nonce(index), ciphertext, self._about(index), into)
        except InvalidTag:
            return False
        return True

    def _about(self, index: int) -> bytes:
        file_id, total = self._bound
        return file_id + index.to_bytes(8, "big") + total


def _nonce(index: int) -> bytes:
    return index.to_bytes(NONCE_BYTES, "big")


def _derived(key: Secret, salt: bytes, purpose: str) -> Secret:
    derivation = HKDF(hashes.SHA256(), KEY_BYTES, salt or None, domain(purpose))
    return Secret.filled(KEY_BYTES, lambda into: derivation.derive_into(key.lend(), into))
