"""The composition root of the cell: the only place that picks an engine, opens the window and reads a clock.

python -m appliance --config FILE --listen unix:PATH | vsock:any [--model PACK]
"""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
import sys
from functools import partial
from pathlib import Path
from typing import Final

import structlog

from appliance.config import ConfigRefused, MeasuredConfig, config_digest
from appliance.engine.errors import EngineRefused
from appliance.engine.golden import GoldenMissed
from appliance.engine.profile import ProfileDrift, ProfileRefused
from appliance.engine.sampling.rules import SamplingRefused
from appliance.engine.scripted import ScriptedEngine
from appliance.identity import Identity
from appliance.key_release import Held, Releaser
from appliance.model_pack import ModelGate
from appliance.model_runtime import ByteScript, MakeMind, Mind, ModelScript
from appliance.ordering.sequencer import Sequencer
from appliance.process_hardening import SealingFailed, seal_process, take_output
from appliance.service_keys import Rings
from appliance.serving.answer_pipeline import Answering, Terms
from appliance.serving.receipts import ReceiptBook
from appliance.serving.run_queue import Device
from appliance.serving.services import ObserveService, ReleaseService, StreamService
from attestation.consensus.chat_limits import RAISED
from attestation.consensus.delegation import DelegationCache
from attestation.rcar.errors import GrantRefused
from attestation.receipts.body import ServedBy
from attestation.sealed.request import Place
from attestation.tee.configfs import ConfigfsTee
from attestation.tee.errors import TeeRefused
from attestation.tee.tee import Tee
from foundation import logs
from foundation.refusal import Refused
from measurements.pack.errors import PackIdentityRefused, PackKeyRefused
from measurements.pack.identity import Expected
from measurements.pack.pack_reader import OpenedPack
from vsock_bridge.errors import AddressRefused
from vsock_bridge.ports import Port
from vsock_bridge.server import CellServer, Service
from vsock_bridge.transport import Address, Scheme

REFUSED: Final = 1
FAILED: Final = 70  # what sysexits.h calls an internal error
REFUSED_MODEL: Final = 71
NO_KEY: Final = 72
REFUSED_ENGINE: Final = 73
WRONG_KEY: Final = 74

_log = structlog.get_logger()


def main() -> int:
    """0 after a signal, 1 when it refuses to start, 2 for a wrong command line, 70 when it cannot go on,
    71 when the pack beside it is not the model it was measured for, 72 when no broker gives it a key, 73 when the
    engine is not what its profile states or does not say what it must, 74 when the key it was given does not open
    the pack."""
    parser = argparse.ArgumentParser(prog="appliance", description="The cell: serves one window until told to stop.")
    parser.add_argument("--config", type=Path, required=True, help="the measured configuration")
    parser.add_argument("--model", type=Path, metavar="PACK", help="the pack that a released key opens")
    parser.add_argument("--listen", type=_window, required=True, help="vsock:any, or unix:PATH")
    arguments = parser.parse_args()
    logs.set_up(take_output())
    try:
        seal_process()
        raw = arguments.config.read_bytes()
        config = MeasuredConfig.parse(raw)
        make_mind = choose_mind(config)
        if config.release is not None and arguments.model is None:
            raise ConfigRefused("model", expected="--model with the pack that the released key opens", got="none")
        identity = Identity(config_digest(raw), detect_tee(needed=config.release is not None))
    except (Refused, SealingFailed, OSError) as reason:
        _log.error("refused to start", config=str(arguments.config), exc_info=reason)
        return REFUSED
    return asyncio.run(serve(config, make_mind, identity, arguments.listen, arguments.model))


def _window(text: str) -> Address:
    """Where a process of its own can be reached."""
    try:
        address = Address.parse(text)
    except AddressRefused as refusal:
        raise argparse.ArgumentTypeError(str(refusal)) from None
    if address.scheme is Scheme.MEMORY:
        raise argparse.ArgumentTypeError("address: expected vsock:any or unix:PATH, got memory")
    return address


def choose_mind(config: MeasuredConfig) -> MakeMind:
    """By the engine's name in the measured configuration, and by nothing else."""
    config.check_engine()
    if config.profile is not None:
        return partial(model_mind, config.engine, config.profile)
    return lambda _: Mind(ScriptedEngine(), ByteScript())


def model_mind(engine: str, profile: bytes, model: OpenedPack | None) -> Mind:
    """The engine over the opened pack, proven (docs/spec/profile.md F4 to F7). Raises as `profiled.start` does."""
    from appliance import engine_start  # noqa: PLC0415 - an engine's libraries are loaded only where it serves

    if model is None:
        raise AssertionError("a cell without a model was refused when its configuration was read")
    started = engine_start.start(model, sampling=model.card.claims.sampling, profile=profile, engine=engine)
    _log.info("engine proven", engine=started.engine.id, profile=profile.hex(), golden=len(started.profile.golden))
    return Mind(started.engine, ModelScript(started.text, started.profile.settings.defaults), profile)


def detect_tee(*, needed: bool) -> Tee | None:
    """The machine's own; none only where nothing hangs on it. Raises `TeeRefused`."""
    try:
        return ConfigfsTee.detect()
    except TeeRefused:
        if needed:
            raise
        return None


class Cell:
    """The parts of one boot of the cell, put together."""

    def __init__(self, config: MeasuredConfig, make_mind: MakeMind, identity: Identity, pack: Path | None) -> None:
        self._config: Final = config
        self._make_mind: Final = make_mind
        self._identity: Final = identity
        self._pack: Final = pack
        self._releaser: Final = None if config.release is None else identity.releaser(config.release)
        self._rings: Final = Rings()
        sequencer = Sequencer(root_key=config.root_key, canister=config.gateway, cache=DelegationCache())
        self.device: Final = Device(on_answered=self._rings.answered)
        self.gate: Final = ModelGate(shut=True)
        stream = StreamService(sequencer, self.device, self.gate, self._rings)
        self.observe: Final = ObserveService(
            sequencer, self.device, stream, self.gate, config.engine, identity, self._rings, self._releaser
        )
        self.release: Final = ReleaseService(
            self._releaser, self._rings, lambda: sequencer.position.height if sequencer.position else 0, sequencer.grant
        )
        self.services: Final[dict[Port, Service]] = {
            Port.STREAM: stream,
            Port.RELEASE: self.release,
            Port.OBSERVE: self.observe,
        }
        if self._releaser is None:
            self._open(None, None)

    async def admit_model(self) -> None:
        """Once there is a key, open the pack with it. Raises what opening raises; the cell then ends."""
        config, releaser = self._config, self._releaser
        if releaser is None or self._pack is None or config.model is None:
            return
        await self.release.has_key.wait()
        model = await asyncio.to_thread(self._admit, self._pack, releaser, config.model)
        await asyncio.to_thread(self._open, model, releaser.held)
        _log.info("model open", name=model.identity.name, model_root=model.identity.model_root.hex())

    def _admit(self, pack: Path, releaser: Releaser, expected: Expected) -> OpenedPack:
        """The key lives as long as this call: nothing keeps it once the pack is open, or was refused."""
        key = releaser.take_key()
        if key is None:
            raise GrantRefused("grant.key", expected="a model key that nobody took", got="none")
        try:
            return self.gate.admit(pack, key, expected, threads=os.cpu_count() or 1)
        finally:
            key.wipe()

    def _open(self, model: OpenedPack | None, held: Held | None) -> None:
        """With everything there that an answer depends on, begin to serve."""
        config, mind = self._config, self._make_mind(model)
        book = ReceiptBook(
            self._identity.key,
            served_by(mind, self._identity.measured_config, model, held),
            config.gateway,
            config.price,
        )
        sealable = config.release is not None and config.release.service is not None
        place = Place(config.gateway, config.release.model_root) if config.release and sealable else None
        terms = Terms(config.gateway, RAISED, config.plaintext, place, config.names)
        self.device.serve_with(Answering(mind, book, terms, self._rings))
        self.gate.unlock()


def served_by(mind: Mind, measured_config: bytes, model: OpenedPack | None, held: Held | None) -> ServedBy:
    """The half of every receipt that does not change in a boot: what was granted, measured, opened and observed."""
    of = None if model is None else model.identity
    root, tokenizer, template = (None, None, None) if of is None else (of.model_root, of.tokenizer, of.template)
    return ServedBy(
        release="" if held is None else held.context.release,
        adoption=None if held is None else held.context.adoption,
        config=measured_config,
        model_root=root,
        tokenizer=tokenizer,
        template=template,
        profile=mind.profile,
        fingerprint=mind.engine.fingerprint,
    )


async def serve(
    config: MeasuredConfig, make_mind: MakeMind, identity: Identity, address: Address, pack: Path | None = None
) -> int:
    """Until told to stop. With a broker configured the stream stays shut until its key has opened `pack`."""
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(logs.on_loop_exception)
    told_to_stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, told_to_stop.set)
    cell = Cell(config, make_mind, identity, pack)
    async with CellServer(cell.services) as server:
        cell.observe.server = server
        try:
            await server.start(address)
        except OSError as reason:
            _log.error("refused to start", address=str(address), exc_info=reason)
            return REFUSED
        _log.info("serving", address=str(address), engine=config.engine)
        running, stopping = loop.create_task(cell.device.run()), loop.create_task(told_to_stop.wait())
        opening = loop.create_task(cell.admit_model())
        giving_up = loop.create_task(cell.release.gave_up.wait())
        ending = {running, stopping}
        await asyncio.wait({*ending, opening, giving_up}, return_when=asyncio.FIRST_COMPLETED)
        if giving_up.done():
            _log.error("no broker gave a key", attempts=cell.release.ATTEMPTS_MAX)
            return NO_KEY
        giving_up.cancel()
        if opening.done() and (why_not := opening.exception()) is not None:
            differs = None
            if isinstance(why_not, PackIdentityRefused | ProfileDrift):
                differs = [name for name, _, _ in why_not.differences]
            if isinstance(why_not, ProfileRefused | GoldenMissed | EngineRefused | SamplingRefused):
                _log.error("refused the engine", differs=differs, exc_info=why_not)
                return REFUSED_ENGINE
            if isinstance(why_not, PackKeyRefused):
                _log.error("the key does not open this pack", exc_info=why_not)
                return WRONG_KEY
            _log.error("refused the model", differs=differs, exc_info=why_not)
            return REFUSED_MODEL
        await asyncio.wait(ending, return_when=asyncio.FIRST_COMPLETED)
        opening.cancel()
        if running.done():
            _log.error("the engine failed", exc_info=running.exception())
            return FAILED
        running.cancel()
    cell.gate.close()
    _log.info("stopped")
    return 0


if __name__ == "__main__":
    sys.exit(main())
