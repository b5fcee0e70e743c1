"""The composition root of the cell: the only place that picks an engine, opens the window and reads a clock.

python -m appliance --config FILE --listen unix:PATH | vsock:any [--model PACK]
"""

from __future__ import annotations

import argparse
import asyncio
import signal
import sys
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Final, Never

import structlog

from appliance import stages
from appliance.config import ConfigRefused, MeasuredConfig, config_digest
from appliance.engine.errors import EngineRefused
from appliance.engine.golden import GoldenMissed
from appliance.engine.profile import ProfileDrift, ProfileRefused
from appliance.engine.sampling.rules import SamplingRefused
from appliance.engine.scripted import ScriptedEngine
from appliance.identity import Identity
from appliance.key_release import Releaser
from appliance.model_runtime import ByteScript, ModelRuntime, ModelScript, StartRuntime
from appliance.ordering.sequencer import Sequencer
from appliance.process_hardening import SealingFailed, seal_process, take_output
from appliance.service_keys import Rings
from appliance.serving.run_queue import Device
from appliance.serving.services import NoBroker, ObserveService, ReleaseService, StreamService
from appliance.stages import Booted, LaidPack, Opened, Proven
from attestation.consensus.delegation import DelegationCache
from attestation.tee.configfs import ConfigfsTee
from attestation.tee.errors import TeeRefused
from attestation.tee.tee import Tee
from foundation import logs
from foundation.refusal import Refused
from measurements.pack.errors import PackIdentityRefused, PackKeyRefused
from measurements.pack.pack_reader import OpenedPack
from vsock_bridge.errors import AddressRefused
from vsock_bridge.ports import Port
from vsock_bridge.server import CellServer
from vsock_bridge.transport import Address, Scheme

REFUSED: Final = 1
FAILED: Final = 70  # what sysexits.h calls an internal error
REFUSED_MODEL: Final = 71
NO_KEY: Final = 72
REFUSED_ENGINE: Final = 73
WRONG_KEY: Final = 74
FIRST_SAID: Final = (NO_KEY, REFUSED_ENGINE, WRONG_KEY, REFUSED_MODEL, FAILED, 0)  # of what ends a boot at one time

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
        start_runtime = runtime_starter(config)
        if config.release is not None and arguments.model is None:
            raise ConfigRefused("model", expected="--model with the pack that the released key opens", got="none")
        identity = Identity(config_digest(raw), detect_tee(needed=config.release is not None))
    except (Refused, SealingFailed, OSError) as reason:
        _log.error("refused to start", config=str(arguments.config), exc_info=reason)
        return REFUSED
    return asyncio.run(serve(Booted.of(config, start_runtime, identity, arguments.model), arguments.listen))


def _window(text: str) -> Address:
    """Where a process of its own can be reached."""
    try:
        address = Address.parse(text)
    except AddressRefused as refusal:
        raise argparse.ArgumentTypeError(str(refusal)) from None
    if address.scheme is Scheme.MEMORY:
        raise argparse.ArgumentTypeError("address: expected vsock:any or unix:PATH, got memory")
    return address


def runtime_starter(config: MeasuredConfig) -> StartRuntime:
    """By the engine's name in the measured configuration, and by nothing else."""
    config.check_engine()
    if config.profile is not None:
        return partial(start_model_runtime, config.engine, config.profile)
    return lambda _: ModelRuntime(ScriptedEngine(), ByteScript())


def start_model_runtime(engine: str, profile: bytes, model: OpenedPack | None) -> ModelRuntime:
    """The engine over the opened pack, proven (docs/spec/profile.md F4 to F7). Raises as `engine_start.start` does."""
    from appliance import engine_start  # noqa: PLC0415 - an engine's libraries are loaded only where it serves

    if model is None:
        raise AssertionError("a cell without a model was refused when its configuration was read")
    started = engine_start.start(model, sampling=model.card.claims.sampling, profile=profile, engine=engine)
    script = ModelScript(started.text, started.profile.settings.defaults)
    return ModelRuntime(started.engine, script, profile, golden=len(started.profile.golden))


def detect_tee(*, needed: bool) -> Tee | None:
    """The machine's own; none only where nothing hangs on it. Raises `TeeRefused`."""
    try:
        return ConfigfsTee.detect()
    except TeeRefused:
        if needed:
            raise
        return None


class Window:
    """The three ports of one boot, whatever stage it is at."""

    def __init__(self, booted: Booted) -> None:
        config, identity = booted.config, booted.identity
        sequencer = Sequencer(root_key=config.root_key, canister=config.gateway, cache=DelegationCache())
        releaser = None if config.release is None else identity.releaser(config.release)
        self.rings: Final = Rings()
        self.device: Final[asyncio.Future[Device]] = asyncio.get_running_loop().create_future()
        self.release: Final = None if releaser is None else self._release(releaser, sequencer)
        stream = StreamService(sequencer, self.device, self.rings)
        observe = ObserveService(
            sequencer,
            stream,
            self.device,
            config.engine,
            ports=lambda: self.server.ports,
            identity=identity,
            rings=self.rings,
            releaser=releaser,
        )
        self.server: Final = CellServer(
            {Port.STREAM: stream, Port.RELEASE: self.release or NoBroker(), Port.OBSERVE: observe}
        )

    def _release(self, releaser: Releaser, sequencer: Sequencer) -> ReleaseService:
        def height() -> int:
            return sequencer.position.height if sequencer.position else 0

        return ReleaseService(releaser, self.rings, height, sequencer.grant)

    def serve(self, proven: Proven) -> None:
        """From now on the stream port takes proofs and bodies."""
        self.device.set_result(stages.device(proven, self.rings))


class Ended(Exception):
    """A boot is over: with which status, and what the log says beside it. Its cause is the reason."""

    def __init__(self, status: int, **said: object) -> None:
        super().__init__(status)
        self.status: Final = status
        self.said: Final = said

    def log(self) -> None:
        reason = self.__cause__
        if self.status == 0:
            _log.info("stopped")
        elif self.status == NO_KEY:
            _log.error("no broker gave a key", **self.said)
        elif self.status == FAILED:
            _log.error("the engine failed", exc_info=reason)
        elif self.status == WRONG_KEY:
            _log.error("the key does not open this pack", exc_info=reason)
        elif self.status == REFUSED_ENGINE:
            _log.error("refused the engine", exc_info=reason, **self.said)
        else:
            _log.error("refused the model", exc_info=reason, **self.said)


async def serve(booted: Booted, address: Address) -> int:
    """Until told to stop. With a broker configured the stream stays shut until its key has opened the pack."""
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(logs.on_loop_exception)
    told_to_stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, told_to_stop.set)
    window, kept = Window(booted), ExitStack()
    if window.release is None:
        window.serve(stages.proven_without_model(booted))
    async with window.server as server:
        try:
            await server.start(address)
        except OSError as reason:
            _log.error("refused to start", address=str(address), exc_info=reason)
            return REFUSED
        _log.info("serving", address=str(address), engine=booted.config.engine)
        ended = await _until_ended(booted, window, told_to_stop, kept)
        if ended.status != 0:
            ended.log()
            return ended.status
    kept.close()
    ended.log()
    return 0


async def _until_ended(booted: Booted, window: Window, told_to_stop: asyncio.Event, kept: ExitStack) -> Ended:
    """Through the stages that are left, and on until something ends the boot."""
    try:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(_stopped(told_to_stop))
            if window.release is not None and booted.pack is not None:
                without_key = tasks.create_task(_gave_up(window.release))
                opened, proven = await _proven(booted, booted.pack, window.release, kept)
                _log_engine(proven.runtime)
                window.serve(proven)
                without_key.cancel()
                model = opened.model.identity
                _log.info("model open", name=model.name, model_root=model.model_root.hex())
            if window.device.done():
                tasks.create_task(_run(window.device.result()))
    except* Ended as group:
        endings = [each for each in group.exceptions if isinstance(each, Ended)]
    return min(endings, key=lambda ended: FIRST_SAID.index(ended.status))


def _log_engine(runtime: ModelRuntime) -> None:
    if runtime.golden:  # else it has no profile that it was proven under
        _log.info("engine proven", engine=runtime.engine.id, profile=runtime.profile.hex(), golden=runtime.golden)


async def _stopped(told_to_stop: asyncio.Event) -> Never:
    await told_to_stop.wait()
    raise Ended(0)


async def _gave_up(release: ReleaseService) -> Never:
    await release.gave_up.wait()
    raise Ended(NO_KEY, attempts=release.ATTEMPTS_MAX)


async def _run(device: Device) -> None:
    try:
        await device.run()
    except Exception as reason:
        raise Ended(FAILED) from reason


async def _proven(booted: Booted, pack: LaidPack, release: ReleaseService, kept: ExitStack) -> tuple[Opened, Proven]:
    """Once there is a key. Whatever opening or proving raises ends the boot."""
    try:
        keyed = await stages.keyed(booted, pack, release)
        opened = await asyncio.to_thread(stages.opened, keyed, kept)
        return opened, await asyncio.to_thread(stages.proven, opened)
    except Exception as reason:
        raise _refused(reason) from reason


def _refused(reason: Exception) -> Ended:
    """What does not open, or is not what is measured."""
    if isinstance(reason, PackKeyRefused):
        return Ended(WRONG_KEY)
    differs = None
    if isinstance(reason, PackIdentityRefused | ProfileDrift):
        differs = [name for name, _, _ in reason.differences]
    if isinstance(reason, ProfileRefused | GoldenMissed | EngineRefused | SamplingRefused):
        return Ended(REFUSED_ENGINE, differs=differs)
    return Ended(REFUSED_MODEL, differs=differs)


if __name__ == "__main__":
    sys.exit(main())
