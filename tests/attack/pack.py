"""Attacks on the model: other packs, changed and exchanged chunks, beside a real cell that has its key."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from devnet.demo.key_owner import KeyOwner, key_owner
from devnet.model import TinyModel
from measurements.pack.keys import ChunkCipher
from measurements.pack.pack_check import inspect_pack
from measurements.pack.pack_writer import seal_pack
from tests.attack.cells import ReleasedCell
from tests.attack.outcome import Outcome, Unexpected, broken, held
from tests.attack.registry import attack
from tests.attack.room import Room
from tests.attack.weakening import instead, together, without

OPENING = "measurements.pack.pack_reader:"


def served(room: Room, change: Callable[[KeyOwner], None], code: str) -> Outcome:
    """A cell whose pack was changed after its key was made. Held if it ends and says why."""
    with key_owner(room.folder, TinyModel(layers=4).write) as owner:
        change(owner)
        cell, serves = ReleasedCell(room, owner, 'engine = "scripted-1"'), True
        try:
            cell.until("serving")
            asyncio.run(cell.get_key())
            said = cell.until("model open", "refused the model")
            serves = said["event"] == "model open"
        finally:
            status = cell.end(asked=serves)
    if serves:
        return broken("the cell serves it")
    found = said["exception"]["code"]  # type: ignore[index]
    if found != code:
        raise Unexpected(f"expected {code}, got {found}")
    return held(f"the cell ends with status {status}: {found}")


def changed_byte(owner: KeyOwner) -> None:
    raw = bytearray(owner.pack.read_bytes())
    raw[inspect_pack(owner.pack).chunk_offset(0) + 100] ^= 1
    owner.pack.write_bytes(bytes(raw))


def filled_unproven(pack: Any, key: Any, into: memoryview, threads: int, progress: Any) -> None:
    """As much as opens; what does not open stays zeros, and the root is not asked."""
    manifest = pack.manifest
    cipher = ChunkCipher(key, pack.signed.header.file_id, manifest.chunks)
    buffer = memoryview(bytearray(pack.signed.sealed_size(0)))
    for index in range(manifest.chunks):
        begin = index * manifest.chunk_bytes
        cipher.open(index, pack.read_chunk(index, buffer), into[begin : begin + manifest.chunk_size(index)])


@attack(
    "chunk-tampered",
    tries="one bit of one chunk of the weights",
    defence="every chunk is authenticated as it opens, and the model root is made anew from what is there (P12)",
    without=together(instead(f"{OPENING}_fill", filled_unproven), instead(f"{OPENING}_proven", lambda *_: {})),
)
def chunk_tampered(room: Room) -> Outcome:
    return served(room, changed_byte, "pack.chunk")


def another_tokenizer(owner: KeyOwner) -> None:
    folder = owner.pack.parent / "other"
    TinyModel(layers=4).write(folder)
    vocabulary = {f"<{byte:02x}>": 255 - byte for byte in range(256)}
    (folder / "tokenizer.json").write_text(json.dumps({"model": {"type": "bytes", "vocab": vocabulary}}))
    resealed(owner, folder)


def smaller_model(owner: KeyOwner) -> None:
    folder = owner.pack.parent / "other"
    TinyModel(layers=1).write(folder)
    resealed(owner, folder)


def resealed(owner: KeyOwner, folder: Path) -> None:
    """As somebody would who has the model's key, and not the right to change the model."""
    owner.pack.unlink()
    seal_pack(folder, owner.pack, owner.key, threads=1)


@attack(
    "tokenizer-swapped",
    tries="the same weights with another tokenizer, so that words mean other words",
    defence="tokenizer and template are measured beside the model root (P15)",
    without=without(f"{OPENING}check_expected"),
)
def tokenizer_swapped(room: Room) -> Outcome:
    return served(room, another_tokenizer, "pack.tokenizer")


@attack(
    "smaller-model",
    tries="a smaller model under the same name, sealed under the same key",
    defence="the pack is held against the root measured into the cell (N16, P15)",
    without=without(f"{OPENING}check_expected"),
)
def smaller_model_served(room: Room) -> Outcome:
    return served(room, smaller_model, "pack.model-root")
