"""The demo's whole path with its cell in a sealed machine: denied, approved, sealed prompts, receipts, audit.

Everything else is the demo's own: the gateway canister, the apps, the host, the broker, and every check of theirs
(boot.md J3, J7). Needs `make vm-tools`.
"""

from __future__ import annotations

import asyncio
import io
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from anchorhold.host.receipt_log import ReceiptLog
from appliance.config import config_digest
from attestation.consensus.principal import to_text
from devnet import engine_profiles
from devnet.demo.key_owner import KeyOwner, key_owner
from devnet.demo.run import CONFIG, PRICE, Demo
from devnet.demo.screen import Screen
from devnet.sealed_machine import booted, built, new_platform
from devnet.sim_snp import SimulatedSnp
from devnet.subnet import GATEWAY
from devnet.tee import simulated_snp
from foundation.secrecy import Prompt
from image_build.boot.progress import Watch, during, moved_bytes
from image_build.boot.running_machine import Running
from measurements.launch.measurement import SnpLaunchDigest
from tests.vm.needs import need_tools
from vsock_bridge.transport import Address

pytestmark = pytest.mark.vm
ASKED = 20  # every second one is sealed


@dataclass(frozen=True)
class MachineOwner(KeyOwner):
    """An owner who approves the image that was started, as `booted` computed it from its files."""

    measured: list[bytes]

    def approve(self, config: bytes) -> None:
        replace(self.broker, measurement=SnpLaunchDigest(self.measured[-1])).approve(config_digest(config))


@dataclass(frozen=True)
class MachineCell:
    """The cell in the machine; what its console says is what is known of it."""

    address: Address
    opened: asyncio.Event

    async def model_open(self) -> None:
        await self.opened.wait()


class MachineDemo(Demo):
    def __init__(self, folder: Path, screen: Screen, platform: SimulatedSnp) -> None:
        super().__init__(folder, [Prompt(b"canary prompt number %d" % number) for number in range(ASKED)], screen)
        self._platform = platform
        self.console: list[str] = []
        self._running: Running | None = None

    def signs(self) -> object:
        """What changes while the machine gets on."""
        return len(self.console), moved_bytes(self._running.emulator) if self._running is not None else 0

    async def run(self) -> None:
        with key_owner(self._folder, engine_profiles.write, simulated_snp(self._platform, bytes(48))) as made:
            await self._serve(MachineOwner(**vars(made), measured=[]))

    @asynccontextmanager
    async def _cell(self, owner: KeyOwner) -> AsyncIterator[MachineCell]:
        assert isinstance(owner, MachineOwner)
        loop = asyncio.get_running_loop()
        news = {word: asyncio.Event() for word in ('"serving"', '"model open"')}

        def hear(line: str) -> None:
            self.console.append(line)
            for word, event in news.items():
                if word in line:
                    loop.call_soon_threadsafe(event.set)

        config = CONFIG.format(
            gateway=to_text(GATEWAY),
            root_key=self._subnet.root_key.hex(),
            price=PRICE,
            engine=engine_profiles.engine_lines(self._folder / "model"),
        )
        raw = (config + owner.config_section()).encode()
        (self._folder / "cell.toml").write_bytes(raw)
        image = built(self._folder / "image", raw)
        with booted(image, self._platform, owner.pack, on_console=hear) as cell:
            owner.measured.append(cell.measurement)
            self._running = cell.running
            await news['"serving"'].wait()
            yield MachineCell(cell.address, news['"model open"'])

    async def _audit(self, owner: KeyOwner, address: Address, log: ReceiptLog) -> None:
        assert isinstance(owner, MachineOwner)
        started = simulated_snp(self._platform, owner.measured[-1])
        await super()._audit(replace(owner, tee=started), address, log)


def test_the_demo_holds_with_its_cell_in_a_machine(tmp_path: Path) -> None:
    need_tools()
    out = io.StringIO()
    demo = MachineDemo(tmp_path, Screen(out, words=False), new_platform())
    watch = Watch([os.getpid()], lambda: (out.tell(), demo.signs()))
    asyncio.run(during("the demo", demo.run(), watch))
    said = out.getvalue()
    assert f"demo: ok ({ASKED + 1} prompts" in said
    assert f"{ASKED // 2} could be opened by nobody else; every receipt holds" in said
    assert said.endswith("audit: ok\n")
    assert not [line for line in demo.console if "canary" in line]
