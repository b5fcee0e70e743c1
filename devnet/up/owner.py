"""The key owner of a running devnet: the sealed model, the broker's store and what only the owner holds.

`owner.json` is written last: while it is not there, whatever an interrupted start left is made anew. It holds secrets
of a simulation in clear, for the folder's owner alone.
"""

from __future__ import annotations

import json
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

from appliance.engine.profile import FILE as PROFILE
from attestation.broker.wrapping import KEY_BYTES
from attestation.sealed.ring import Ring
from attestation.sealed.suites import SuiteId
from devnet import engine_profiles
from devnet.broker import devnet_broker
from devnet.demo.engines import Choice
from devnet.demo.key_owner import BLOCKS, MEASUREMENT, OVERLAP, RESOURCE, SERVICE, KeyOwner
from devnet.pki import Validity
from devnet.sim_tdx import SimulatedTdx
from devnet.tee import simulated_tdx
from devnet.up.plan import LITTLE, Plan, UpRefused
from foundation import private_files
from foundation.secrecy import Secret
from measurements.pack.identity import Identity
from measurements.pack.pack_check import inspect_pack
from measurements.pack.pack_writer import seal_pack
from measurements.pack.parallel import default_threads

FILE: Final = "owner.json"
_HELD: Final = ("model_key", "machine_seed", "key_encryption_key", "ring")


@contextmanager
def kept_owner(plan: Plan) -> Iterator[KeyOwner]:
    """The owner of the folder's model, made now or in an earlier process. The broker is open inside."""
    folder = plan.folder
    if not (folder / FILE).exists():
        _make(plan)
    held = {name: bytes.fromhex(value) for name, value in json.loads((folder / FILE).read_bytes()).items()}
    signed = inspect_pack(folder / "model.pack")
    now = datetime.now(UTC).replace(microsecond=0)
    validity = Validity(now - timedelta(hours=1), now + timedelta(days=365))
    tee = simulated_tdx(SimulatedTdx.create(held["machine_seed"], validity), MEASUREMENT)
    key, root = Secret(held["model_key"]), signed.header.model_root
    resources = {RESOURCE: key, SERVICE: Secret(held["ring"])}
    with devnet_broker(
        folder / "broker",
        tee,
        model_root=root,
        secrets=resources,
        key_encryption_key=Secret(held["key_encryption_key"]),
    ) as broker:
        ring = Ring.parse(Secret(held["ring"]))
        yield KeyOwner(
            folder / "model.pack", Identity.of(signed), broker, ring, held["machine_seed"], validity, tee, key
        )


def _make(plan: Plan) -> None:
    folder = plan.folder
    for name in ("model", "broker"):
        shutil.rmtree(folder / name, ignore_errors=True)
    (folder / "model.pack").unlink(missing_ok=True)
    _write_model(plan, folder / "model")
    held = {name: Secret(secrets.token_bytes(KEY_BYTES)) for name in _HELD[:-1]}
    held["ring"] = Ring.make(SuiteId.MLKEM768_X25519, 1, BLOCKS, OVERLAP, randomness=secrets.token_bytes).encode()
    seal_pack(folder / "model", folder / "model.pack", held["model_key"], threads=default_threads())
    private_files.replace(
        folder / FILE, json.dumps({name: secret.reveal().hex() for name, secret in held.items()}).encode()
    )


def _write_model(plan: Plan, target: Path) -> None:
    """The little model, or a copy of the caller's with a profile of the engine on this machine."""
    if plan.model == LITTLE:
        plan.engine.write_model(target)
        return
    if not (Path(plan.model) / "card.json").is_file():
        raise UpRefused("model", expected="`little`, or a folder with a model and its card.json", got=plan.model)
    shutil.copytree(plan.model, target)
    (target / PROFILE).unlink(missing_ok=True)
    if plan.engine is Choice.FIXED:
        engine_profiles.profile(target)
