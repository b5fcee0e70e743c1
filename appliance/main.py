"""The composition root of the cell: the only place that picks an engine, opens the window and reads a clock.

    python -m appliance --config FILE --listen unix:PATH | vsock:any [--model PACK]
"""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
import sys
from pathlib import Path
from typing import Final

import structlog
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from appliance.config import ConfigRefused, MeasuredConfig, config_digest
from appliance.device import Device
from appliance.engine.protocol import Engine
from appliance.engine.scripted import ScriptedEngine
from appliance.model import ModelGate
from appliance.ordering.sequencer import Sequencer
from appliance.release import Attester, Releaser, Wanted
from appliance.sealing import SealingFailed, seal_process
from appliance.services import ObserveService, ReleaseService, StreamService
from attestation.consensus.chat import RAISED
from attestation.consensus.delegation import DelegationCache
from attestation.evidence.keyset import KeyAlgorithm, Keyset, KeyUse, PublicKey
from attestation.tee.configfs import ConfigfsTee
from attestation.tee.tee import Tee
from foundation import logs
from foundation.refusal import Refused
from measurements.pack.errors import PackIdentityRefused
from measurements.pack.identity import Expected
from vsock_bridge.errors import AddressRefused
from vsock_bridge.ports import Port
from vsock_bridge.server import CellServer, Service
from vsock_bridge.transport import Address, Scheme

REFUSED: Final = 1
FAILED: Final = 70      # what sysexits.h calls an internal error
REFUSED_MODEL: Final = 71
NO_KEY: Final = 72

_log = structlog.get_logger()


def main() -> int:
    """0 after a signal, 1 when it refuses to start, 2 for a wrong command line, 70 when it cannot go on,
    71 when the pack beside it is not the model it was measured for, 72 when no broker gives it a key."""
    parser = argparse.ArgumentParser(prog="appliance", description="The cell: serves one window until told to stop.")
    parser.add_argument("--config", type=Path, required=True, help="the measured configuration")
    parser.add_argument("--model", type=Path, metavar="PACK", help="the pack that a released key opens")
    parser.add_argument("--listen", type=_window, required=True, help="vsock:any, or unix:PATH")
    arguments = parser.parse_args()
    logs.set_up()
    try:
        seal_process()
        raw = arguments.config.read_bytes()
        config = MeasuredConfig.parse(raw)
        engine = choose_engine(config.engine)
        if config.release is not None and arguments.model is None:
            raise ConfigRefused("model", expected="--model with the pack that the released key opens", got="none")
        releaser = None if config.release is None else make_releaser(config.release, raw, ConfigfsTee.detect())
    except (Refused, SealingFailed, OSError) as reason:
        _log.error("refused to start", config=str(arguments.config), exc_info=reason)
        return REFUSED
    return asyncio.run(serve(config, engine, arguments.listen, releaser, arguments.model))


def _window(text: str) -> Address:
    """Where a process of its own can be reached."""
    try:
        address = Address.parse(text)
    except AddressRefused as refusal:
        raise argparse.ArgumentTypeError(str(refusal)) from None
    if address.scheme is Scheme.MEMORY:
        raise argparse.ArgumentTypeError("address: expected vsock:any or unix:PATH, got memory")
    return address


def choose_engine(name: str) -> Engine:
    scripted = ScriptedEngine()
    if name != scripted.id:
        raise ConfigRefused("engine", expected=scripted.id, got=name)
    return scripted


def make_releaser(wanted: Wanted, raw_config: bytes, tee: Tee) -> Releaser:
    """The keys of this boot, in memory and nowhere else, and what shows them to the broker."""
    receipt = Ed25519PrivateKey.generate().public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
    keyset = Keyset((PublicKey(KeyUse.RECEIPT, KeyAlgorithm.ED25519, receipt),))
    return Releaser(wanted, Attester(tee, keyset, config_digest(raw_config)))


async def serve(
    config: MeasuredConfig,
    engine: Engine,
    address: Address,
    releaser: Releaser | None = None,
    pack: Path | None = None,
) -> int:
    """Until told to stop. With a `releaser` the stream stays shut until its key has opened `pack`."""
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(logs.on_loop_exception)
    told_to_stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, told_to_stop.set)
    sequencer = Sequencer(root_key=config.root_key, canister=config.gateway, cache=DelegationCache())
    device = Device(engine, RAISED)
    gate = ModelGate(shut=releaser is not None)
    stream = StreamService(sequencer, device, gate)
    observe = ObserveService(sequencer, device, stream, gate, engine.id)
    release = ReleaseService(releaser)
    services: dict[Port, Service] = {Port.STREAM: stream, Port.RELEASE: release, Port.OBSERVE: observe}
    async with CellServer(services) as server:
        observe.server = server
        try:
            await server.start(address)
        except OSError as reason:
            _log.error("refused to start", address=str(address), exc_info=reason)
            return REFUSED
        _log.info("serving", address=str(address), engine=engine.id)
        running, stopping = loop.create_task(device.run()), loop.create_task(told_to_stop.wait())
        opening = loop.create_task(admit_model(release, releaser, gate, pack, config.model))
        giving_up = loop.create_task(release.gave_up.wait())
        ending = {running, stopping}
        await asyncio.wait({*ending, opening, giving_up}, return_when=asyncio.FIRST_COMPLETED)
        if giving_up.done():
            _log.error("no broker gave a key", attempts=release.ATTEMPTS_MAX)
            return NO_KEY
        giving_up.cancel()
        if opening.done() and (why_not := opening.exception()) is not None:
            differs = [name for name, _, _ in why_not.differences] if isinstance(why_not, PackIdentityRefused) else None
            _log.error("refused the model", differs=differs, exc_info=why_not)
            return REFUSED_MODEL
        await asyncio.wait(ending, return_when=asyncio.FIRST_COMPLETED)
        opening.cancel()
        if running.done():
            _log.error("the engine failed", exc_info=running.exception())
            return FAILED
        running.cancel()
    gate.close()
    _log.info("stopped")
    return 0


async def admit_model(
    release: ReleaseService, releaser: Releaser | None, gate: ModelGate, pack: Path | None, expected: Expected | None
) -> None:
    """Once there is a key, open the pack with it. Raises what opening raises; the cell then ends."""
    if releaser is None or pack is None or expected is None:
        return
    await release.has_key.wait()
    if releaser.held is None:
        raise AssertionError("the key is there once its event is set")
    model = await asyncio.to_thread(gate.admit, pack, releaser.held.key, expected, threads=os.cpu_count() or 1)
    _log.info("model open", name=model.identity.name, model_root=model.identity.model_root.hex())


if __name__ == "__main__":
    sys.exit(main())
