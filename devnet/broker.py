"""An embedded broker for a devnet: SQLite in a folder, the simulated TEE's policy, its machine as reference values.

    with devnet_broker(folder, tee, model_root=..., secrets={...}) as made:
        made.public                     # what goes into the cell's configuration as `broker_key`
        made.approve(measured_config)   # the digest of that configuration: before this, the cell is denied
        send = LocalSend(made.broker)   # a host beside it: anchorhold.host.broker_relay.relay(host, send)

The same code as production, other roots: `judging` names the devnet's root and nothing else does.
"""

from __future__ import annotations

import secrets as randomness
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from appliance.key_release import Carry
from attestation.broker.administration import add_release, add_secret
from attestation.broker.broker import Broker, Judging, Keys, Reply, load_keys, new_keys
from attestation.broker.errors import BrokerRefused
from attestation.broker.session import Endorsements, Release
from attestation.broker.store import Store
from attestation.broker.wrapping import KEY_BYTES, SoftwareWrapping
from attestation.decision_log.words import ReleaseState
from attestation.policy import document
from devnet.tee import SimulatedSnpTee, SimulatedTee, collateral_json, policy_document, reference_values
from foundation import private_files
from foundation.secrecy import Secret
from measurements.digests import ConfigurationDigest, ModelRoot
from measurements.launch.measurement import LaunchMeasurement, SnpLaunchDigest, TdxRegisters
from measurements.reference import ReferenceValues

RELEASE_NAME = "devnet"


@dataclass(frozen=True, slots=True)
class DevnetBroker:
    """A broker in this process, and what an operator would change by hand."""

    store: Store
    keys: Keys
    wrapping: SoftwareWrapping
    broker: Broker
    measurement: LaunchMeasurement
    model_root: ModelRoot

    @property
    def public(self) -> bytes:
        return self.keys.public

    def approve(self, measured_config: ConfigurationDigest) -> None:
        """The image of this devnet's machine, with that configuration and no other."""
        release = Release(RELEASE_NAME, self.measurement, self.model_root, measured_config, ReleaseState.APPROVED)
        add_release(self.store, release, time.time_ns())

    def has_approved(self) -> bool:
        """Whether some configuration of this machine was approved, here or in an earlier process."""
        with self.store.change() as change:
            return self.measurement in change.releases()


def measurement_of(tee: SimulatedTee) -> LaunchMeasurement:
    """As a release names it."""
    if isinstance(tee, SimulatedSnpTee):
        return SnpLaunchDigest(tee.fields.measurement)
    return TdxRegisters(tee.fields.mrtd, tee.fields.rtmrs)


def judging(tee: SimulatedTee) -> Judging:
    """The strict policy with this devnet's root, and its one machine. Images come from the releases."""
    values = reference_values(tee)
    machines = {name: values.allowed(name) for name in ("snp.chip_id", "tdx.ppid") if values.allowed(name)}
    return Judging(document.parse(policy_document(tee)), ReferenceValues.of(machines), _endorsements(tee), tee.root.der)


def _endorsements(tee: SimulatedTee) -> Endorsements:
    return Endorsements(collateral=b"" if isinstance(tee, SimulatedSnpTee) else collateral_json(tee.platform))


@contextmanager
def devnet_broker(
    folder: Path,
    tee: SimulatedTee,
    *,
    model_root: ModelRoot,
    secrets: Mapping[str, Secret],
    key_encryption_key: Secret | None = None,
) -> Iterator[DevnetBroker]:
    """A broker in a folder. An empty one gets these secrets by their paths, and no release approved yet; one that has a
    broker goes on with it, and needs the key-encryption key that was given for it then."""
    private_files.folder(folder)
    file = folder / "broker.db"
    is_new = not file.exists()
    store = Store.open(f"sqlite:///{file}", create=is_new)
    try:
        wrapping = SoftwareWrapping(key_encryption_key or Secret(randomness.token_bytes(KEY_BYTES)))
        if is_new:
            keys = new_keys(store, wrapping, time.time_ns())
            for resource, secret in secrets.items():
                add_secret(store, wrapping, resource, secret, model_root=model_root, now_ns=time.time_ns())
        else:
            keys = load_keys(store, wrapping)
            store.signer = keys.signing
        broker = Broker(store, keys, wrapping, judging(tee), clock_ns=time.time_ns, randomness=randomness.token_bytes)
        yield DevnetBroker(store, keys, wrapping, broker, measurement_of(tee), model_root)
    finally:
        store.close()


class LocalSend:
    """A host that sits beside its broker: carries without a socket. `anchorhold.host.broker_relay` uses HTTPS."""

    def __init__(self, broker: Broker) -> None:
        self._broker = broker
        self._cookie: str | None = None
        self.denials: list[str] = []

    def __call__(self, carry: Carry) -> tuple[int, bytes]:
        try:
            reply = self._answer(carry)
        except BrokerRefused as refusal:
            self.denials.append(refusal.code)
            return refusal.status, b""
        self._cookie = reply.cookie or self._cookie
        return 200, reply.body

    def _answer(self, carry: Carry) -> Reply:
        match carry.path:
            case "auth":
                return self._broker.auth(carry.body)
            case "attest":
                return self._broker.attest(self._cookie, carry.body)
            case path:
                return self._broker.resource(self._cookie, path.removeprefix("resource/"))
