"""A development image with an owner, a broker, a gateway and a host around it; all of them here, the cell in a machine.

    with world(folder) as made:
        with made.boot() as cell:                       # real firmware, real checks, the simulated chip
            ...

The chip reports what QEMU was handed (`image_build.boot.text_disk`), computed anew at every boot: an image that was
changed reports another measurement, and files that are not those of the firmware's table do not start.
"""

from __future__ import annotations

import asyncio
import json
import math
import secrets
import tempfile
import time
from collections.abc import Callable, Coroutine, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final, TypeVar

from anchorhold.host.answer_reports import AnswerCollector
from anchorhold.host.broker_relay import relay
from anchorhold.host.slice_feed import feed
from appliance.config import config_digest
from appliance.key_release import Standing
from attestation.broker.administration import add_release
from attestation.broker.session import Release
from attestation.consensus.chat import ChatRequest, UserMessage
from attestation.consensus.principal import to_text
from attestation.decision_log.words import ReleaseState
from devnet.broker import DevnetBroker, LocalSend, devnet_broker
from devnet.chain import Chain
from devnet.chip import chip_file
from devnet.demo.run import CONFIG, PRICE
from devnet.model import TinyModel
from devnet.pki import Validity
from devnet.sim_snp import SimulatedSnp
from devnet.subnet import GATEWAY, Subnet
from devnet.tee import simulated_snp
from foundation.secrecy import Prompt, Secret
from image_build.boot import progress, vm_tools
from image_build.boot.plan import Disk, Image, Plan, Platform
from image_build.boot.running_machine import Running, Tools
from image_build.boot.text_disk import Handed, disk_of_text
from image_build.build import Order, build
from measurements.launch.measurement import SnpLaunchDigest
from measurements.pack.identity import Identity
from measurements.pack.pack_writer import seal_pack
from vsock_bridge.errors import BridgeError
from vsock_bridge.host import Host, Patience
from vsock_bridge.ports import Port
from vsock_bridge.transport import Address

VCPU_TYPE: Final = "EPYC-v4"
RESOURCE: Final = "default/model-key/vm"
LOOK_SECONDS: Final = 0.2
TIME_NS: Final = 1_700_000_000_000_000_000
PATIENT: Final = Patience(total_seconds=math.inf)  # whoever waits watches the machine instead
T = TypeVar("T")


@dataclass(frozen=True)
class Cell:
    """A machine that was started, and how to speak with it."""

    running: Running
    measurement: bytes

    @property
    def address(self) -> Address:
        return Address.parse(self.running.plan.window)

    @property
    def console(self) -> str:
        return "\n".join(self.running.console)

    def health(self) -> dict[str, Any] | None:
        """What the cell says of itself as soon as it says anything; None if the machine ended."""
        try:
            said: dict[str, Any] = json.loads(self.ask(Port.OBSERVE, b"health"))
        except progress.MachineEnded:
            return None
        return said

    def opens_its_model(self) -> bool:
        """Wait until it does, or the machine has ended."""
        while (said := self.health()) is not None:
            if said["state"] != "waiting for its model":
                return True
            self.running.ended(0.2)
        return False

    def ask(self, port: Port, item: bytes) -> bytes:
        async def work() -> bytes:
            while True:
                try:
                    async with Host(self.address, port, patience=PATIENT) as host:
                        return await host.ask(item)
                except BridgeError:  # not there yet, or busy with others
                    await asyncio.sleep(LOOK_SECONDS)

        return self.during(f"an answer on {port.name}", work())

    def during(self, what: str, work: Coroutine[object, object, T]) -> T:
        """Do it as long as the machine gets on. Raises `progress.MachineEnded` and `StandsStill`."""
        return asyncio.run(progress.during(what, work, self.running.watch(), lambda: self.running.is_running))

    def until(self, what: str, found: Callable[[], T | None]) -> T:
        return progress.until(what, found, self.running.watch())


@contextmanager
def booted(
    image: Path,
    platform: SimulatedSnp,
    pack: Path,
    *,
    table_of: Path | None = None,
    firmware_file: Path | None = None,
    payload: str | None = None,
    on_console: Callable[[str], None] | None = None,
    vcpus: int = 1,
    host_words: Sequence[str] = (),
) -> Iterator[Cell]:
    """`host_words` are what the host adds to the emulator's command line."""
    with tempfile.TemporaryDirectory(prefix="vm-") as name:  # a socket's path must be short
        run = Path(name)
        parts, firmware_file = Image.below(image), firmware_file or vm_tools.FIRMWARE
        handed = Handed.of(firmware_file, Image.below(table_of) if table_of else parts)
        measurement = handed.measurement(VCPU_TYPE, vcpus)
        disks = [Disk("anchorhold-model", pack), _disk(run, "machine", chip_file(platform, measurement))]
        if payload is not None:
            disks.append(_disk(run, "payload", payload.encode()))
        plan = Plan(
            Platform.EMULATED,
            parts,
            firmware_file,
            run,
            tuple(disks),
            vcpus=vcpus,
            vcpu_type=VCPU_TYPE,
            console=True,
            table=handed.write_table(run / "table"),
        )
        with Running(plan, Tools(vm_tools.TOOLS / "host"), on_console=on_console, host_words=host_words) as running:
            yield Cell(running, measurement)


def _disk(run: Path, name: str, content: bytes) -> Disk:
    (run / f"{name}.disk").write_bytes(disk_of_text(content))
    return Disk(f"anchorhold-{name}", run / f"{name}.disk")


@dataclass(frozen=True)
class World:
    folder: Path
    image: Path
    config: bytes
    platform: SimulatedSnp
    broker: DevnetBroker
    pack: Path
    identity: Identity
    chain: Chain
    _approved: set[bytes] = field(default_factory=set)

    def approve(self, image: Path | None = None, vcpus: int = 1) -> None:
        """The broker's owner vouches for this image, with the configuration of ours. Once is enough. Another number of
        processors is another measurement, so another release, for other blocks: it has a world of its own."""
        measurement = Handed.of(vm_tools.FIRMWARE, Image.below(image or self.image)).measurement(VCPU_TYPE, vcpus)
        if measurement not in self._approved:
            self._approved.add(measurement)
            release = Release(
                measurement.hex()[:8],
                SnpLaunchDigest(measurement),
                self.identity.model_root,
                config_digest(self.config),
                ReleaseState.APPROVED,
            )
            add_release(self.broker.store, release, time.time_ns())

    @contextmanager
    def boot(
        self,
        image: Path | None = None,
        *,
        table_of: Path | None = None,
        firmware_file: Path | None = None,
        pack: Path | None = None,
        payload: str | None = None,
        vcpus: int = 1,
        host_words: Sequence[str] = (),
    ) -> Iterator[Cell]:
        """A machine with this image; `table_of` gives the firmware the digests of another one's files."""
        with booted(
            image or self.image,
            self.platform,
            pack or self.pack,
            table_of=table_of,
            firmware_file=firmware_file,
            payload=payload,
            vcpus=vcpus,
            host_words=host_words,
        ) as cell:
            yield cell

    def is_approved(self, measurement: bytes) -> bool:
        return measurement in self._approved

    def carry(self, cell: Cell) -> tuple[Standing, list[str]]:
        """The host carries one attempt at the key: where the cell stands then, and what the broker had against it."""

        async def work() -> tuple[Standing, list[str]]:
            send = LocalSend(self.broker.broker)
            async with Host(cell.address, Port.RELEASE, patience=PATIENT) as host:
                return await relay(host, send), send.denials

        return cell.during("the relay", work())

    def answers(self, cell: Cell) -> Mapping[tuple[int, int], tuple[bytes, bytes]]:
        """Every block of the chain through the window: what was said to each request, and the body of its receipt."""
        return cell.during("the answers", fed(cell.address, self.chain))


async def fed(address: Address, chain: Chain) -> Mapping[tuple[int, int], tuple[bytes, bytes]]:
    collector = AnswerCollector()
    heights = range(1, len(chain.blocks) + 1)
    async with Host(address, Port.STREAM, patience=PATIENT) as host:
        bodies = {height: chain.body(height) for height in heights}
        async for said in feed(host, chain.proof(1, heights[-1], TIME_NS + 100), bodies):
            collector.add(said)
    return {place: (told.answer.reveal(), told.signed.body) for place, told in collector.answers.items()}


@contextmanager
def world(folder: Path) -> Iterator[World]:
    """An owner with a sealed model, a broker that has its key, and the image whose configuration names both."""
    TinyModel().write(folder / "model")
    pack, key = folder / "model.pack", Secret(secrets.token_bytes(32))
    identity = Identity.of(seal_pack(folder / "model", pack, key, threads=1))
    platform = new_platform()
    subnet = Subnet(b"a subnet beside a machine")
    chain = Chain(subnet, GATEWAY, seed=b"vm")
    for height, prompts in enumerate(PROMPTS, 1):
        chain.seal([chat(words) for words in prompts], TIME_NS + height)
    tee = simulated_snp(platform, bytes(48))
    with devnet_broker(folder / "broker", tee, model_root=identity.model_root, secrets={RESOURCE: key}) as broker:
        config = (
            CONFIG.format(
                gateway=to_text(GATEWAY), root_key=subnet.root_key.hex(), price=PRICE, engine='engine = "scripted-1"'
            )
            + f'\n[release]\nbroker_key = "{broker.public.hex()}"\nresource = "{RESOURCE}"\n'
            f'model_root = "{identity.model_root.hex()}"\n'
        ).encode()
        image = built(folder / "image", config)
        yield World(folder, image, config, platform, broker, pack, identity, chain)


def new_platform() -> SimulatedSnp:
    now = datetime.now(UTC).replace(microsecond=0)
    return SimulatedSnp.create(secrets.token_bytes(16), Validity(now - timedelta(days=1), now + timedelta(days=1)))


PROMPTS: Final[Sequence[Sequence[str]]] = (
    ("What is an anchorhold?", "canary in the machine " + "x" * 3000, "Does the host know?"),
    ("And the next block?", "One more.", "And another.", "Is anybody there?"),
    ("The last", "of ten", "prompts."),
)


def chat(words: str) -> bytes:
    return ChatRequest("scripted-1", (UserMessage(Prompt(words.encode())),), (), None).encode()


def built(out: Path, config: bytes) -> Path:
    build(Order("dev", out, vm_tools.CACHE, config))
    return out
