"""The stages of one boot: each is a value made from the one before, and what is not there yet does not exist.

    Booted      what is measured, who this boot is, and how its engine is started
    Keyed       and the broker's grant, with the model key
    Opened      and the model, which that key opened; the key is gone
    Proven      and an engine that is what it must be, with what every receipt says of it

A cell that asks for no key goes from Booted to Proven at once. The device that runs what is ordered is made of Proven.
A boot trusts nothing that the host gives it. The pack is compared with the measured configuration before it is opened,
and verified chunk by chunk while it is opened. What differs is named (docs/spec/pack.md P15). Who waits for which
stage, and how a boot ends that does not come to it, is in `main`.
"""

from __future__ import annotations

import os
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

from appliance.config import MeasuredConfig
from appliance.identity import Identity
from appliance.key_release import Held
from appliance.model_runtime import ModelRuntime, StartRuntime
from appliance.service_keys import Rings
from appliance.serving.answer_pipeline import Answering, Terms
from appliance.serving.receipts import ReceiptBook
from appliance.serving.run_queue import Device
from appliance.serving.services import ReleaseService
from attestation.consensus.chat_limits import RAISED
from attestation.receipts.body import EngineFingerprint, ServedBy
from attestation.receipts.outcome import checked_digest
from attestation.sealed.request import Place
from foundation.secrecy import Secret
from measurements.digests import ProfileDigest
from measurements.pack.identity import Expected
from measurements.pack.pack_reader import OpenedPack, open_pack


@dataclass(frozen=True, slots=True)
class LaidPack:
    """The pack that the host laid beside the cell, and what is measured of the model in it."""

    path: Path
    expected: Expected


@dataclass(frozen=True, slots=True)
class Booted:
    config: MeasuredConfig
    start_runtime: StartRuntime
    identity: Identity
    pack: LaidPack | None  # None where no key is asked for; on the devnet also where a key is all that is asked for

    @classmethod
    def of(
        cls, config: MeasuredConfig, start_runtime: StartRuntime, identity: Identity, pack: Path | None = None
    ) -> Self:
        laid = None if pack is None or config.model is None else LaidPack(pack, config.model)
        return cls(config, start_runtime, identity, laid)


@dataclass(frozen=True, slots=True)
class Keyed:
    booted: Booted
    pack: LaidPack
    held: Held
    key: Secret = field(repr=False)


@dataclass(frozen=True, slots=True)
class Opened:
    booted: Booted
    held: Held
    model: OpenedPack


@dataclass(frozen=True, slots=True)
class Proven:
    booted: Booted
    runtime: ModelRuntime
    by: ServedBy


async def keyed(booted: Booted, pack: LaidPack, release: ReleaseService) -> Keyed:
    """Once a broker gave a key. Raises `GrantRefused` if somebody else took it."""
    held, key = await release.first_key()
    return Keyed(booted, pack, held, key)


def opened(keyed: Keyed, kept: ExitStack) -> Opened:
    """`kept` has the model's memory until it is closed. Raises `PackRefused` or OSError.

    The key lives as long as this call: nothing keeps it once the pack is open, or was refused.
    """
    try:
        pack = open_pack(keyed.pack.path, keyed.key, threads=os.cpu_count() or 1, expected=keyed.pack.expected)
        return Opened(keyed.booted, keyed.held, kept.enter_context(pack))
    finally:
        keyed.key.wipe()


def proven(opened: Opened) -> Proven:
    """Raises what the engine's start raises."""
    return _proven(opened.booted, opened.model, opened.held)


def proven_without_model(booted: Booted) -> Proven:
    """Of a cell that asks for no key."""
    return _proven(booted, None, None)


def _proven(booted: Booted, model: OpenedPack | None, held: Held | None) -> Proven:
    runtime = booted.start_runtime(model)
    of = None if model is None else model.identity
    root, tokenizer, template = (None, None, None) if of is None else (of.model_root, of.tokenizer, of.template)
    by = ServedBy(
        release="" if held is None else held.context.release,
        adoption=None if held is None else held.context.adoption,
        config=booted.identity.measured_config,
        model_root=root,
        tokenizer=tokenizer,
        template=template,
        profile=ProfileDigest(checked_digest(runtime.profile)),
        fingerprint=EngineFingerprint(checked_digest(runtime.engine.fingerprint)),
    )
    return Proven(booted, runtime, by)


def device(proven: Proven, rings: Rings) -> Device:
    config = proven.booted.config
    book = ReceiptBook(proven.booted.identity.key, proven.by, config.gateway, config.price)
    sealable = config.release is not None and config.release.service is not None
    place = Place(config.gateway, config.release.model_root) if config.release and sealable else None
    terms = Terms(config.gateway, RAISED, config.plaintext, place, config.names)
    return Device(Answering(proven.runtime, book, terms, rings), on_answered=rings.answered)
