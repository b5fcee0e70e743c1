"""All that the owner of a model holds, made together in one folder, so that each part fits the others.

    made = make(order, say=print)

    card.json              what the model says of itself
    engine-profile.json    what its engine's bits hang on, and the answers that prove it
    model.pack, model.key  the sealed model, and the key that opens it
    cell.toml              the measured configuration of its cells
    cell.digest            the digest of that file, in hexadecimal
    broker/                a key broker that holds the key, and whose broker.toml names digest and model

The folder appears when all of it is there, or not at all. The model's own folder is read and never written to.
"""

from __future__ import annotations

import os
import secrets
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from anchorhold.input_files import MODEL
from anchorhold.owner.broker_process import CONFIG_NAME, Place, initialise, open_broker
from anchorhold.owner.engine_profile import write_profile
from anchorhold.owner.errors import OwnerRefused
from anchorhold.owner.measured_configuration import Resources, Served, broker_section, configuration
from anchorhold.owner.model_card import GENERATION, card_of, check_name
from anchorhold.owner.sizing import Memory, memory_of
from appliance.config import config_digest
from appliance.engine.profile import FILE as PROFILE
from appliance.engine.profile import digest_of
from appliance.engine_start import processors
from appliance.models import Described, describe
from appliance.models.folder import open_folder
from attestation.broker import service
from attestation.broker.administration import add_secret
from attestation.sealed.ring import Ring
from attestation.sealed.suites import SuiteId
from foundation import private_files
from foundation.refusal import PARTS_MAX, listed
from foundation.secrecy import Secret
from measurements.pack.card import Claims
from measurements.pack.disk import whole_folder
from measurements.pack.errors import PackMalformed
from measurements.pack.files import CARD, check_names, kind_of
from measurements.pack.identity import Identity
from measurements.pack.keys import KEY_BYTES, read_key
from measurements.pack.pack_writer import seal_pack
from measurements.pack.parallel import Progress, default_threads, silent

PACK: Final = "model.pack"
KEY: Final = "model.key"
CONFIG: Final = "cell.toml"
DIGEST: Final = "cell.digest"
BROKER: Final = "broker"
SERVICE_BLOCKS, SERVICE_OVERLAP = 100_000, 2_000  # of each service key, as docs/broker-operator.md has them

_STAGED: Final = "model"
_POLICY, _REFERENCES, _ROOT = "policy.toml", "references.toml", "root.der"


@dataclass(frozen=True, slots=True)
class Machines:
    """By what a broker judges machines: a built-in policy's name or a policy's bytes, and the machines of the fleet."""

    policy: str | bytes = "strict"
    references: bytes | None = None
    simulated_root: bytes | None = None  # of a devnet


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """What is to be made of which model, and what only the owner knows."""

    model: Path
    out: Path
    served: Served
    place: Place
    machines: Machines = Machines()
    name: str | None = None  # for a model without a card
    licence: str | None = None
    leave_out: frozenset[str] = frozenset()
    first_block: int = 1
    length_max: int | None = None


@dataclass(frozen=True, slots=True)
class Made:
    identity: Identity
    memory: Memory
    measured_config: bytes
    broker_key: bytes
    profile: bytes


def make(order: Order, *, say: Callable[[str], None], progress: Progress = silent) -> Made:
    """Raises `Refused` of the stage that refuses, and OSError; `order.out` is then not there."""
    refuse_existing(order.out)
    with MODEL.at(order.model):
        names = sealed_names(order.model, order.leave_out, say)
        described = read_description(order.model)
        card = card_in(order, described)
    with whole_folder(order.out) as folder:
        staged = folder / _STAGED
        _stage(order.model, names, staged)
        for place in (folder, staged):
            (place / CARD).write_bytes(card)
        say(f"profile of {order.served.engine}: running golden prompts")
        profile = _profile(order, staged, Claims.parse(card))
        for place in (folder, staged):
            (place / PROFILE).write_bytes(profile)
        say("sealing the model")
        memory = memory_of(described.architecture, order.length_max)
        made = _sealed(order, folder, staged, profile, progress=progress, memory=memory)
        shutil.rmtree(staged)
    return made


def _sealed(order: Order, folder: Path, staged: Path, profile: bytes, *, progress: Progress, memory: Memory) -> Made:
    private_files.write_new(folder / KEY, secrets.token_bytes(KEY_BYTES).hex().encode() + b"\n")
    key = read_key(folder / KEY)
    signed = seal_pack(staged, folder / PACK, key, threads=default_threads(), progress=progress)
    identity, resources = Identity.of(signed), Resources.of(Identity.of(signed).name)
    broker_key = _broker(order, folder / BROKER)
    config = configuration(
        order.served, profile=digest_of(profile), identity=identity, broker_key=broker_key, resources=resources
    )
    (folder / CONFIG).write_bytes(config)
    digest = config_digest(config)
    (folder / DIGEST).write_text(f"{digest.hex()}\n")
    _fill_broker(order, folder / BROKER, key, resources, measured_config=digest, model_root=identity.model_root)
    return Made(identity, memory, digest, broker_key, digest_of(profile))


def refuse_existing(out: Path) -> None:
    if out.exists() or out.is_symlink():
        raise OwnerRefused(
            "owner.out",
            expected=f"{out} not to be there yet",
            got="a folder" if out.is_dir() else "a file",
            hint=f"give --out another name, or move {out} away",
        )


# ---- the model's folder


def sealed_names(model: Path, leave_out: frozenset[str], say: Callable[[str], None]) -> tuple[str, ...]:
    """The files that are sealed. What a pack does not carry is refused, all of it at once, unless it is hidden or was
    named to be left out. Raises `OwnerRefused`, `PackMalformed` and OSError."""
    there = sorted(os.listdir(model))  # noqa: PTH208  # names, not paths
    if unknown := leave_out - set(there):
        raise OwnerRefused(
            "owner.leave-out", expected=f"files of {model} after --leave-out", got=f"no {listed(unknown)} there"
        )
    hidden = [name for name in there if name.startswith(".")]
    left = sorted({*hidden, *leave_out, PROFILE} & set(there))
    names = [name for name in there if name not in left and name != CARD]
    others = [name for name in names if not _is_carried(name)]
    check_names([name for name in names if name not in others])
    if others:
        raise OwnerRefused(
            "owner.files",
            expected=f"nothing in {model} but what a pack carries",
            got=listed(others),
            hint=f"if the model does without: {' '.join(f'--leave-out {name}' for name in others[:PARTS_MAX])}",
        )
    if left:
        say(f"left out: {', '.join(left)}")
    return tuple(names)


def _is_carried(name: str) -> bool:
    try:
        kind_of(name)
    except PackMalformed:
        return False
    return True


def read_description(model: Path) -> Described:
    """Raises `ModelRefused` for a model that is not served."""
    return describe((model / "config.json").read_bytes())


def card_in(order: Order, described: Described) -> bytes:
    """The card that lies in the model's folder, or else one out of what the model's files and the owner say."""
    path = order.model / CARD
    if path.exists():
        if given := [option for option, value in (("--name", order.name), ("--license", order.licence)) if value]:
            raise OwnerRefused(
                "owner.card",
                expected=f"no {' and no '.join(given)}, since {path} says it",
                got=" and ".join(given),
                hint=f"change {path}, or leave the option out",
            )
        raw = path.read_bytes()
        check_name(Claims.parse(raw))
        return raw
    if order.licence is None:
        raise OwnerRefused(
            "owner.license", expected=f"--license, since there is no {path}", got="none", hint="for instance Apache-2.0"
        )
    generation = order.model / GENERATION
    return card_of(
        described,
        generation.read_bytes() if generation.exists() else None,
        name=order.name or order.model.resolve().name,
        licence=order.licence,
    )


def _stage(model: Path, names: Sequence[str], staged: Path) -> None:
    """The files to seal, in a folder of ours: by another name of the same file where the file system allows it, since
    weights are large. They are only read."""
    private_files.folder(staged)
    for name in names:
        source = model / name
        if source.is_symlink():
            source = source.resolve(strict=True)  # a cache of models keeps links to its files
        try:
            os.link(source, staged / name)
        except OSError:  # another file system, or somebody else's file
            shutil.copyfile(source, staged / name)


def _profile(order: Order, staged: Path, claims: Claims) -> bytes:
    with open_folder(staged) as files:
        return write_profile(
            files,
            engine=order.served.engine,
            sampling=claims.sampling,
            length_max=order.length_max,
            threads=processors(),
        ).raw


# ---- the broker


def _broker(order: Order, folder: Path) -> bytes:
    """Its public key."""
    machines = order.machines
    private_files.folder(folder)
    policy = machines.policy if isinstance(machines.policy, str) else _POLICY
    for name, raw in ((_POLICY, machines.policy), (_REFERENCES, machines.references), (_ROOT, machines.simulated_root)):
        if isinstance(raw, bytes):
            (folder / name).write_bytes(raw)
    return initialise(folder, store="sqlite:///broker.db", wrapping="file:kek", policy=policy, place=order.place).public


def _fill_broker(
    order: Order, folder: Path, key: Secret, resources: Resources, *, measured_config: bytes, model_root: bytes
) -> None:
    config = folder / CONFIG_NAME
    root = f'simulated_root = "{_ROOT}"\n' if order.machines.simulated_root is not None else ""
    private_files.replace(
        config, config.read_bytes() + root.encode() + broker_section(measured_config, model_root).encode()
    )
    opened = open_broker(config)
    try:
        now = time.time_ns()
        add_secret(opened.store, opened.wrapping, resources.model, key, model_root=model_root, now_ns=now)
        ring = Ring.make(
            SuiteId.MLKEM768_X25519, order.first_block, SERVICE_BLOCKS, SERVICE_OVERLAP, randomness=secrets.token_bytes
        )
        service.make(opened.store, opened.wrapping, resources.service, ring, model_root=model_root, now_ns=now)
    finally:
        opened.store.close()
