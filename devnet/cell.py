"""A cell over a simulated TEE: the unchanged appliance, with the devnet's machine in place of hardware.

    python -m devnet.cell --config FILE --listen unix:PATH --seed HEX --not-before ISO --not-after ISO --measurement HEX
    python -m devnet.cell --config FILE --listen vsock:any --chip FILE

With a seed, the platform's two RSA keys are new in every process, so it writes its root where `--root` says: a broker
that is to believe this cell reads it there. With a chip's file the authorities are whoever's made it.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
import threading
from collections.abc import Callable
from datetime import datetime
from pathlib import Path

import structlog

from appliance.config import MeasuredConfig, config_digest
from appliance.identity import Identity
from appliance.main import REFUSED, runtime_starter, serve
from appliance.process_hardening import SealingFailed, seal_process, take_output
from appliance.stages import Booted
from attestation.tee.tee import Tee
from devnet.chip import ChipTee
from devnet.pki import Validity
from devnet.sim_snp import SimulatedSnp
from devnet.sim_tdx import SimulatedTdx
from devnet.tee import SimulatedTee, simulated_snp, simulated_tdx
from foundation import logs
from foundation.refusal import Refused
from vsock_bridge.transport import Address

_log = structlog.get_logger()


def main() -> int:
    parser = argparse.ArgumentParser(prog="devnet.cell", description="A cell over a simulated TEE.")
    parser.add_argument("--config", type=Path, required=True)
    parser.add_argument("--listen", type=Address.parse, required=True)
    parser.add_argument("--chip", type=Path, help="a simulated chip; instead of the next five")
    parser.add_argument("--seed", type=bytes.fromhex)
    parser.add_argument("--kind", choices=["snp", "tdx"], default="tdx", help="tdx: its root follows from the seed")
    parser.add_argument("--not-before", type=datetime.fromisoformat)
    parser.add_argument("--not-after", type=datetime.fromisoformat)
    parser.add_argument("--measurement", type=bytes.fromhex)
    parser.add_argument("--model", type=Path, help="the pack that a released key opens")
    parser.add_argument("--root", type=Path, help="where to write the root certificate (DER)")
    parser.add_argument("--with-parent", action="store_true", help="end when standard input is closed")
    arguments = parser.parse_args()
    if arguments.with_parent:
        threading.Thread(target=_end_with_parent, daemon=True).start()
    if arguments.chip is None and None in (
        arguments.seed,
        arguments.not_before,
        arguments.not_after,
        arguments.measurement,
    ):
        parser.error("either --chip, or --seed, --not-before, --not-after and --measurement")
    return run(arguments.config, arguments.listen, arguments.model, lambda: _tee(arguments))


def run(config: Path, listen: Address, model: Path | None, make_tee: Callable[[], Tee]) -> int:
    """`appliance.main.main`, save for where the TEE comes from."""
    logs.set_up(take_output())
    try:
        seal_process()
        raw = config.read_bytes()
        measured = MeasuredConfig.parse(raw)
        start_runtime = runtime_starter(measured)
        identity = Identity(config_digest(raw), make_tee())
    except (Refused, SealingFailed, OSError) as reason:
        _log.error("refused to start", config=str(config), exc_info=reason)
        return REFUSED
    return asyncio.run(serve(Booted.of(measured, start_runtime, identity, model), listen))


def _end_with_parent() -> None:
    """Whoever started this process holds the other end; it is closed by their end too, however that comes."""
    sys.stdin.buffer.read()
    os._exit(0)


def _tee(arguments: argparse.Namespace) -> Tee:
    if arguments.chip is not None:
        return ChipTee.parse(arguments.chip.read_bytes())
    tee = _platform(arguments)
    if arguments.root is not None:
        arguments.root.write_bytes(tee.root.der)
    return tee


def _platform(arguments: argparse.Namespace) -> SimulatedTee:
    validity = Validity(arguments.not_before, arguments.not_after)
    if arguments.kind == "snp":
        return simulated_snp(SimulatedSnp.create(arguments.seed, validity), arguments.measurement)
    return simulated_tdx(SimulatedTdx.create(arguments.seed, validity), arguments.measurement)


if __name__ == "__main__":
    sys.exit(main())
