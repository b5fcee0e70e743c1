"""A cell serves the model it was measured for and no other: window.md N16, through the broker and over the window."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from anchorhold.host.slice_feed import CellDeclined, propose
from appliance.key_release import State
from attestation.consensus.principal import to_text
from devnet.demo.key_owner import KeyOwner, key_owner
from devnet.model import TinyModel
from devnet.subnet import GATEWAY, Subnet
from foundation.secrecy import Secret
from measurements.pack.pack_writer import seal_pack
from tests.cell_process import environment
from vsock_bridge.host import Host
from vsock_bridge.ports import Port
from vsock_bridge.transport import Address

SUBNET = Subnet(b"model admission")


class Cell:
    """The devnet's cell, released to by `owner`; its log lines as they come."""

    def __init__(self, folder: Path, owner: KeyOwner, *, engine: str = 'engine = "scripted-1"') -> None:
        self.address = Address.parse(f"unix:{folder}/cell.sock")
        config = folder / "cell.toml"
        config.write_text(
            f'gateway = "{to_text(GATEWAY)}"\nroot_key = "{SUBNET.root_key.hex()}"\n{engine}\n' + owner.config_section()
        )
        owner.approve(config.read_bytes())
        self.process = subprocess.Popen(
            [
                sys.executable,
                "-m",
                "devnet.cell",
                "--config",
                str(config),
                "--listen",
                str(self.address),
                *owner.cell_arguments(),
            ],
            cwd=folder,
            env=environment(),
            stderr=subprocess.PIPE,
            text=True,
        )
        self.until("serving")

    def until(self, *events: str) -> dict[str, object]:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            said: dict[str, object] = json.loads(line)
            if said["event"] in events:
                return said
        raise AssertionError(f"the cell ended without saying any of {events}")

    def end(self, *, asked: bool = True) -> int:
        """Its exit status; it is told to stop unless it ends by itself."""
        if asked:
            self.process.terminate()
        assert self.process.stderr is not None
        with self.process.stderr as rest:
            rest.read()
        return self.process.wait()


def test_the_stream_opens_with_the_model(tmp_path: Path) -> None:
    async def refused_before_and_after(cell: Cell, owner: KeyOwner) -> tuple[str, str]:
        async with Host(cell.address, Port.STREAM) as host:
            with pytest.raises(CellDeclined) as before:
                await propose(host, b"no proof")
            standing, denials = await owner.carry(cell.address)
            assert (standing.state, denials) == (State.HAS_KEY, [])
            await asyncio.to_thread(cell.until, "model open")
            with pytest.raises(CellDeclined) as after:
                await propose(host, b"no proof")
        return before.value.code, after.value.code

    with key_owner(tmp_path, TinyModel().write) as owner:
        cell = Cell(tmp_path, owner)
        try:
            assert asyncio.run(refused_before_and_after(cell, owner)) == ("cell.not-ready", "slice.encoding")
        finally:
            assert cell.end() == 0


def another_model(folder: Path) -> None:
    """A smaller model under the same name: what an operator would save on."""
    TinyModel(layers=1).write(folder)


def another_tokenizer(folder: Path) -> None:
    TinyModel().write(folder)
    vocabulary = {f"<{byte:02x}>": 255 - byte for byte in range(256)}
    (folder / "tokenizer.json").write_text(json.dumps({"model": {"type": "bytes", "vocab": vocabulary}}))


def another_template(folder: Path) -> None:
    TinyModel().write(folder)
    (folder / "chat_template.jinja").write_text("{{ messages }}")


@pytest.mark.parametrize(
    ("made", "differs"),
    [
        (another_model, ["model-root"]),
        (another_tokenizer, ["tokenizer", "model-root"]),
        (another_template, ["template", "model-root"]),
    ],
)
def test_another_pack_is_named_and_ends_the_cell(
    tmp_path: Path, made: Callable[[Path], None], differs: list[str]
) -> None:
    with key_owner(tmp_path, TinyModel().write) as owner:
        made(tmp_path / "other")
        owner.pack.unlink()
        seal_pack(tmp_path / "other", owner.pack, Secret(bytes(32)), threads=1)
        cell = Cell(tmp_path, owner)
        standing, _ = asyncio.run(owner.carry(cell.address))
        assert standing.state is State.HAS_KEY
        refused = cell.until("refused the model")
        assert refused["differs"] == differs
        assert refused["exception"]["code"] == f"pack.{differs[0]}"  # type: ignore[index]
        assert cell.end(asked=False) == 71


def test_a_key_that_does_not_open_the_pack_is_named_and_ends_the_cell(tmp_path: Path) -> None:
    with key_owner(tmp_path, TinyModel().write) as owner:
        TinyModel().write(tmp_path / "same")
        owner.pack.unlink()
        seal_pack(tmp_path / "same", owner.pack, Secret(b"\x01" * 32), threads=1)
        cell = Cell(tmp_path, owner)
        standing, _ = asyncio.run(owner.carry(cell.address))
        assert standing.state is State.HAS_KEY
        refused = cell.until("the key does not open this pack")
        assert refused["exception"]["code"] == "key.wrong"  # type: ignore[index]
        assert cell.end(asked=False) == 74
