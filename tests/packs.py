"""Packs for tests: a folder of a few hundred bytes, and a writer made from docs/spec/pack.md alone.

`forge` signs whatever it is given, also what the sealer would refuse, so that a reader meets a signed lie. It shares
no code with the packs it imitates, save the CBOR encoder.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from foundation import cbor
from foundation.secrecy import Secret

KEY = Secret(bytes(range(32)))
OTHER_KEY = Secret(b"\x55" * 32)
SIGNER = Ed25519PrivateKey.from_private_bytes(b"\x11" * 32)
SIGNER_HEX = SIGNER.public_key().public_bytes_raw().hex()

CARD: dict[str, Any] = {
    "name": "bits",
    "family": "none",
    "license": "Apache-2.0",
    "quantization": "none",
    "sampling": {"top_k": 4},
}


def weights(**tensors: tuple[str, list[int], bytes]) -> bytes:
    """A safetensors file."""
    members, data = {}, b""
    for name, (dtype, shape, content) in tensors.items():
        members[name] = {"dtype": dtype, "shape": shape, "data_offsets": [len(data), len(data) + len(content)]}
        data += content
    text = json.dumps(members).encode()
    return len(text).to_bytes(8, "little") + text + data


FILES: dict[str, bytes] = {
    "chat_template.jinja": b"{{ messages }}",
    "config.json": b'{"width": 2}',
    "model.safetensors": weights(a=("BF16", [2, 3], bytes(range(12))), b=("U8", [70], bytes(70))),
    "tokenizer.json": b'{"model": "bytes"}',
}


def write_folder(folder: Path, changes: dict[str, bytes | None] | None = None, **card: Any) -> Path:
    """The files as a model folder; `changes` replaces, adds or (with None) leaves out."""
    folder.mkdir()
    files: dict[str, bytes | None] = {**FILES, "card.json": json.dumps({**CARD, **card}).encode(), **(changes or {})}
    for name, content in files.items():
        if content is not None:
            (folder / name).write_bytes(content)
    return folder


def derived(key: Secret, salt: bytes | None, purpose: str) -> bytes:
    return HKDF(hashes.SHA256(), 32, salt, _domain(purpose)).derive(key.reveal())


def _domain(text: str) -> bytes:
    return bytes([len(text)]) + text.encode()


def _sha(*parts: bytes) -> bytes:
    return hashlib.sha256(b"".join(parts)).digest()


def tree(entries: list[bytes]) -> bytes:
    """RFC 9162 section 2.1.1."""
    if len(entries) == 1:
        return _sha(b"\0", entries[0])
    split = 1 << ((len(entries) - 1).bit_length() - 1)
    return _sha(b"\1", tree(entries[:split]), tree(entries[split:]))


@dataclass
class Forge:
    """Every part of a pack, open to change before `build`."""

    files: dict[str, bytes] = field(default_factory=lambda: dict(FILES))
    chunk_bytes: int = 64
    file_id: bytes = b"\x07" * 32
    key: Secret = field(default_factory=lambda: KEY)
    padding: bytes = b"\0"
    header: dict[str, Any] = field(default_factory=dict)
    measured: dict[str, Any] = field(default_factory=dict)
    claims: dict[str, Any] = field(default_factory=dict)
    manifest: list[Any] | None = None

    def build(self, *, protected: bytes | None = None, unprotected: dict[int, int] | None = None) -> bytes:
        stream, listed = self._stream()
        manifest = [self.chunk_bytes, listed] if self.manifest is None else self.manifest
        chunks = [stream[at : at + self.chunk_bytes] for at in range(0, len(stream), self.chunk_bytes)]
        cipher = AESGCM(derived(self.key, self.file_id, "anchorhold/pack-chunks/v1"))
        total = len(chunks).to_bytes(8, "big")
        sealed = [
            cipher.encrypt(n.to_bytes(12, "big"), chunk, self.file_id + n.to_bytes(8, "big") + total)
            for n, chunk in enumerate(chunks)
        ]
        index = b"".join(_sha(_domain("anchorhold/pack-chunk/v1"), each) for each in sealed)
        payload = cbor.encode(
            {
                "version": 1,
                "file_id": self.file_id,
                "key_check": derived(self.key, self.file_id, "anchorhold/pack-key-check/v1"),
                "manifest": manifest,
                "card": {"claims": {**CARD, **self.claims}, "measured": {**self._measured(), **self.measured}},
                "model_root": tree([_domain("anchorhold/model/v1") + cbor.encode(manifest), *chunks]),
                "index_digest": _sha(_domain("anchorhold/pack-index/v1"), index),
                **self.header,
            }
        )
        if protected is None:
            protected = cbor.encode({1: -8, 4: SIGNER.public_key().public_bytes_raw()})
        signature = SIGNER.sign(cbor.encode(["Signature1", protected, _domain("anchorhold/pack/v1"), payload]))
        envelope = cbor.encode(cbor.Tag(18, [protected, unprotected or {}, payload, signature]))
        return b"anchorhold-pack\n" + len(envelope).to_bytes(4, "big") + envelope + index + b"".join(sealed)

    def _stream(self) -> tuple[bytes, list[list[Any]]]:
        stream, listed = b"", []
        for name, content in sorted(self.files.items()):
            head = 8 + int.from_bytes(content[:8], "little") if name.endswith(".safetensors") else 0
            stream += self.padding * (-(len(stream) + head) % 64)
            listed.append([name, len(stream), len(content)])
            stream += content
        return stream, listed

    def _measured(self) -> dict[str, Any]:
        def digest(*names: str) -> bytes:
            rows = [[name, _sha(self.files[name])] for name in names]
            return _sha(_domain("anchorhold/model-files/v1"), cbor.encode(rows))

        return {
            "parameters": 76,
            "dtypes": ["BF16", "U8"],
            "config": digest("config.json"),
            "tokenizer": digest("tokenizer.json"),
            "template": digest("chat_template.jinja"),
        }
