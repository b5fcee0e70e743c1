"""The key owner's side of the demo: a sealed model, and a broker that gives its key to one proven cell.

The TEE is simulated and its measurement stands for an image that is not there yet: what is real is everything that
judges them.
"""

from __future__ import annotations

import hashlib
import secrets
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

from anchorhold.client import Service
from anchorhold.host.broker_relay import relay
from appliance.config import config_digest
from appliance.key_release import Standing
from attestation.broker.log import audit
from attestation.sealed.ring import Offer, Ring
from attestation.sealed.suites import SuiteId
from devnet import little_model
from devnet.broker import DevnetBroker, LocalSend, devnet_broker
from devnet.pki import Validity
from devnet.sim_tdx import SimulatedTdx
from devnet.tee import SimulatedTee, simulated_tdx
from foundation.secrecy import Secret
from measurements.pack.identity import Identity
from measurements.pack.pack_reader import OpenedPack, open_pack
from measurements.pack.pack_writer import seal_pack
from measurements.pack.parallel import default_threads
from vsock_bridge.host import Host
from vsock_bridge.ports import Port
from vsock_bridge.transport import Address

RESOURCE: Final = "default/model-key/demo"
SERVICE: Final = "default/service-key/demo"
BLOCKS, OVERLAP = 10_000, 1_000  # of a service key
MEASUREMENT: Final = hashlib.sha384(b"the demo's cell is a process: no image is measured").digest()
_MADE: Final = ("model", "broker")


@dataclass(frozen=True)
class KeyOwner:
    """What the owner of a model holds, and what a cell must be told to find it."""

    pack: Path
    identity: Identity
    broker: DevnetBroker
    ring: Ring
    seed: bytes
    validity: Validity
    tee: SimulatedTee
    key: Secret

    @property
    def offer(self) -> bytes:
        """What is published of the service key in use: the broker's signature makes it that."""
        return Offer.of(SERVICE, self.ring.keys[0]).signed(self.broker.keys.signing)

    def service(self, gateway: bytes) -> Service:
        """As an app has it, who knows the broker's key, the gateway and the model."""
        return Service.checked(self.offer, self.broker.public, gateway=gateway, model_root=self.identity.model_root)

    @contextmanager
    def opened(self) -> Iterator[OpenedPack]:
        """The model in memory, for the owner, who has its key."""
        with open_pack(self.pack, self.key, threads=default_threads()) as pack:
            yield pack

    def config_section(self) -> str:
        """What is measured into the cell: whom to take a key from, which, and for what model."""
        identity = self.identity
        return (
            f'\n[release]\nbroker_key = "{self.broker.public.hex()}"\nresource = "{RESOURCE}"\n'
            f'service = "{SERVICE}"\nmodel_root = "{identity.model_root.hex()}"\n'
            f'\n[release.model]\nname = "{identity.name}"\n'
            f'tokenizer = "{identity.tokenizer.hex()}"\ntemplate = "{identity.template.hex()}"\n'
        )

    def cell_arguments(self) -> list[str]:
        """The simulated machine of the devnet's cell: the same seed, the same root."""
        start, end = self.validity.start.isoformat(), self.validity.end.isoformat()
        return [
            "--model",
            str(self.pack),
            "--seed",
            self.seed.hex(),
            "--measurement",
            MEASUREMENT.hex(),
            "--not-before",
            start,
            "--not-after",
            end,
        ]

    def approve(self, config: bytes) -> None:
        self.broker.approve(config_digest(config))

    def entries(self) -> int:
        """How many decisions the broker's signed log holds; raises if one link of it is wrong."""
        return audit(self.broker.store, self.broker.public).position

    async def carry(self, address: Address) -> tuple[Standing, list[str]]:
        """The host carries one attempt: where the cell stands then, and the broker's reasons against it."""
        send = LocalSend(self.broker.broker)
        async with Host(address, Port.RELEASE) as host:
            return await relay(host, send), send.denials


@contextmanager
def key_owner(
    folder: Path, write_model: Callable[[Path], object] = little_model.write, machine: SimulatedTee | None = None
) -> Iterator[KeyOwner]:
    """Seal the model that `write_model` makes and start a broker for it; what a former run left there is replaced. The
    broker believes `machine`, or else one that follows from the owner's seed."""
    for name in _MADE:
        shutil.rmtree(folder / name, ignore_errors=True)
    pack = folder / "model.pack"
    pack.unlink(missing_ok=True)
    write_model(folder / "model")
    key, seed = Secret(secrets.token_bytes(32)), secrets.token_bytes(32)
    signed = seal_pack(folder / "model", pack, key, threads=default_threads())
    now = datetime.now(UTC).replace(microsecond=0)
    validity = Validity(now - timedelta(hours=1), now + timedelta(days=1))
    tee = machine or simulated_tdx(SimulatedTdx.create(seed, validity), MEASUREMENT)
    root = signed.header.model_root
    ring = Ring.make(SuiteId.MLKEM768_X25519, 1, BLOCKS, OVERLAP, randomness=secrets.token_bytes)
    keys = {RESOURCE: key, SERVICE: ring.encode()}
    with devnet_broker(folder / "broker", tee, model_root=root, secrets=keys) as broker:
        yield KeyOwner(pack, Identity.of(signed), broker, ring, seed, validity, tee, key)
