"""A cell's word on its whole log: how many receipts it has signed in this boot, and the root of the tree over them.

    anchorhold/receipts/3f0c...        origin: one log per receipt key, so one per boot
    7                                  how many
    CsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=

    (em dash) anchorhold/receipts/3f0c... 6s1p...

A checkpoint of C2SP's tlog-checkpoint, a note of its signed-note, over a tree of RFC 9162 whose leaves are receipt
bodies (docs/spec/receipt.md T18 to T22). It is signed with the receipt key itself. Establishes what the cell had
signed when it signed this; that it signed nothing else elsewhere shows when two of these are held beside each other
(`fork`).
"""

from __future__ import annotations

import base64
import binascii
import re
from dataclasses import dataclass
from hashlib import sha256
from typing import Final, Self

from attestation.receipts.errors import CheckpointRefused, ReceiptSignatureRefused
from attestation.receipts.signed_receipt import check_key, key_id
from foundation import ed25519, merkle
from foundation.digests import DIGEST_BYTES
from foundation.ed25519 import Signer
from foundation.refusal import shown

ORIGIN_PREFIX: Final = "anchorhold/receipts/"
NOTE_BYTES_MAX: Final = 1024
SIGNATURES_MAX: Final = 16
SIZE_MAX: Final = (1 << 63) - 1
_DASH: Final = "\N{EM DASH} "
_ED25519: Final = b"\x01"  # signed-note's number for it
_HASH_BYTES: Final = 4
_ORIGIN: Final = re.compile(re.escape(ORIGIN_PREFIX) + r"[0-9a-f]{64}")
_SIZE: Final = re.compile(r"0|[1-9][0-9]{0,18}")


def origin_of(raw_key: bytes) -> str:
    """The name of the log that the holder of this receipt key keeps."""
    return ORIGIN_PREFIX + key_id(raw_key).hex()


def _name_hash(name: str, raw_key: bytes) -> bytes:
    return sha256(name.encode() + b"\n" + _ED25519 + raw_key).digest()[:_HASH_BYTES]


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A size and a root, of the log of this origin."""

    origin: str
    size: int
    root: bytes

    def __post_init__(self) -> None:
        if _ORIGIN.fullmatch(self.origin) is None:
            raise CheckpointRefused("origin", expected=f"{ORIGIN_PREFIX} and a key's name", got=shown(self.origin))
        if type(self.size) is not int or not 0 <= self.size <= SIZE_MAX:
            raise CheckpointRefused("size", expected=f"0 to {SIZE_MAX}", got=str(self.size)[:40])
        if len(self.root) != DIGEST_BYTES:
            raise CheckpointRefused("root", expected=f"{DIGEST_BYTES} bytes", got=len(self.root))
        if self.size == 0 and self.root != merkle.root(()):
            raise CheckpointRefused("root", expected="that of an empty tree", got=self.root.hex())

    @property
    def text(self) -> str:
        return f"{self.origin}\n{self.size}\n{base64.b64encode(self.root).decode()}\n"

    def signed(self, signer: Signer, raw_key: bytes) -> bytes:
        """The note. `raw_key` is the public half of `signer`, and the origin its own."""
        signature = _name_hash(self.origin, raw_key) + signer.sign(self.text.encode())
        return f"{self.text}\n{_DASH}{self.origin} {base64.b64encode(signature).decode()}\n".encode()


@dataclass(frozen=True, slots=True)
class SignedCheckpoint:
    """A checkpoint under the one signature of its log. Parsed, not believed: `verify` checks it."""

    checkpoint: Checkpoint
    name_hash: bytes
    signature: bytes

    @classmethod
    def parse(cls, raw: bytes) -> Self:
        """Raises `CheckpointRefused`, nothing else. Every byte counts: there is no second way to write it."""
        if len(raw) > NOTE_BYTES_MAX:
            raise CheckpointRefused("note", expected=f"at most {NOTE_BYTES_MAX} bytes", got=len(raw))
        try:
            lines = raw.decode().split("\n")
        except UnicodeDecodeError:
            raise CheckpointRefused("note", expected="UTF-8", got=f"{len(raw)} bytes that are not UTF-8") from None
        match lines:
            case [origin, size, root, "", signed, ""] if _SIZE.fullmatch(size):
                checkpoint = Checkpoint(origin, int(size), _base64(root, DIGEST_BYTES))
            case _:
                raise CheckpointRefused(
                    "note", expected="origin, size, root and one signature", got=f"{len(lines)} lines"
                )
        head = f"{_DASH}{origin} "
        if not signed.startswith(head):
            raise CheckpointRefused("name", expected="the origin as the name of the key", got=shown(signed))
        value = _base64(signed[len(head) :], _HASH_BYTES + ed25519.SIGNATURE_BYTES)
        return cls(checkpoint, value[:_HASH_BYTES], value[_HASH_BYTES:])

    def encode(self) -> bytes:
        signature = base64.b64encode(self.name_hash + self.signature).decode()
        return f"{self.checkpoint.text}\n{_DASH}{self.checkpoint.origin} {signature}\n".encode()

    def verify(self, raw_key: bytes) -> Checkpoint:
        """The checkpoint, if the holder of this receipt key signed it for its own log."""
        of = self.checkpoint
        if of.origin != origin_of(raw_key):
            raise CheckpointRefused("origin", expected=origin_of(raw_key), got=of.origin)
        if self.name_hash != _name_hash(of.origin, raw_key):
            raise CheckpointRefused("key-hash", expected="that of this key and name", got=shown(self.name_hash))
        check_key(raw_key)
        if not ed25519.holds(raw_key, self.signature, of.text.encode()):
            expected = f"the checkpoint at {of.size} signed by {raw_key.hex()}"
            raise ReceiptSignatureRefused("signature", expected=expected, got="a signature that does not hold")
        return of


def without_cosignatures(note: bytes) -> bytes:
    """T21: the note as it left the cell: what witnesses added to it stays out of what is checked here.

    Keeps the lines of the origin's own name and does not judge the rest. Raises `CheckpointRefused`.
    """
    text, blank, signatures = note.partition(b"\n\n")
    lines = signatures.split(b"\n")
    if not blank or len(note) > SIGNATURES_MAX * NOTE_BYTES_MAX or len(lines) > SIGNATURES_MAX + 1:
        raise CheckpointRefused(
            "note",
            expected="a text and at most 16 signatures",
            got=f"{len(note)} bytes with {len(lines)} lines of signatures",
        )
    own = _DASH.encode() + text.split(b"\n", 1)[0] + b" "
    return text + blank + b"".join(line + b"\n" for line in lines if line.startswith(own))


def _base64(text: str, size: int) -> bytes:
    """The one spelling of so many bytes."""
    try:
        raw = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise CheckpointRefused("base64", expected="base64", got=shown(text)) from None
    if len(raw) != size or base64.b64encode(raw).decode() != text:
        raise CheckpointRefused("base64", expected=f"the one spelling of {size} bytes", got=shown(text))
    return raw
