"""secrecy.md S15: once the pack is open nothing of its key is left in the cell, looked at from outside."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from devnet.demo.key_owner import MEASUREMENT, key_owner
from devnet.demo.run import PRICE
from devnet.model import TinyModel
from foundation.digests import domain
from measurements.pack.pack_check import PackFile
from tests.e2e.test_upgrade import Upgrade
from tests.memory import holds, needs_root


async def counted(folder: Path) -> dict[str, int]:
    """How often a cell that serves holds each secret it was given, or made of one."""
    world = Upgrade(folder)
    with key_owner(folder, TinyModel().write) as owner:
        machine = world.machine(owner, "0.1.0", MEASUREMENT, PRICE, None, 1)
        owner.approve(machine.config)
        with PackFile.open(owner.pack) as pack:
            file_id = pack.signed.header.file_id
        key = owner.key.reveal()
        secrets = {
            "model key": key,
            "chunk key": HKDF(hashes.SHA256(), 32, file_id, domain("anchorhold/pack-chunks/v1")).derive(key),
            "service key in use": owner.ring.keys[0].key.secret.reveal(),
        }
        async with world.started(owner, machine):
            return dict(zip(secrets, holds(world.pid, secrets.values()), strict=True))


@needs_root
@pytest.mark.slow
def test_nothing_is_left_of_the_key_that_opened_the_pack(tmp_path: Path) -> None:
    found = asyncio.run(counted(tmp_path))
    assert found["service key in use"]  # which shows that the search finds what is there
    assert (found["model key"], found["chunk key"]) == (0, 0)
