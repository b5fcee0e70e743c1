"""A cell over a simulated TEE: the appliance as it is, with the devnet's machine where hardware would be.

    python -m devnet.cell --config FILE --listen unix:PATH --seed HEX --not-before ISO --not-after ISO --measurement HEX

The platform's two RSA keys are new in every process, so it writes its root where `--root` says: a broker that is to
believe this cell reads it there.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
from datetime import datetime
from pathlib import Path

from appliance.config import MeasuredConfig, config_digest
from appliance.identity import Identity
from appliance.main import choose_mind, serve
from appliance.sealing import seal_process
from devnet.pki import Validity
from devnet.sim_snp import SimulatedSnp
from devnet.sim_tdx import SimulatedTdx
from devnet.tee import SimulatedTee, simulated_snp, simulated_tdx
from foundation import logs
from vsock_bridge.transport import Address


def main() -> int:
    parser = argparse.ArgumentParser(prog="devnet.cell", description="A cell over a simulated TEE.")
    parser.add_argument("--config", type=Path, required=True)
    parser.add_argument("--listen", type=Address.parse, required=True)
    parser.add_argument("--seed", type=bytes.fromhex, required=True)
    parser.add_argument("--kind", choices=["snp", "tdx"], default="tdx", help="tdx: its root follows from the seed")
    parser.add_argument("--not-before", type=datetime.fromisoformat, required=True)
    parser.add_argument("--not-after", type=datetime.fromisoformat, required=True)
    parser.add_argument("--measurement", type=bytes.fromhex, required=True)
    parser.add_argument("--model", type=Path, help="the pack that a released key opens")
    parser.add_argument("--root", type=Path, help="where to write the root certificate (DER)")
    arguments = parser.parse_args()
    logs.set_up()
    seal_process()
    raw = arguments.config.read_bytes()
    config = MeasuredConfig.parse(raw)
    tee = _tee(arguments)
    if arguments.root is not None:
        arguments.root.write_bytes(tee.root.der)
    identity = Identity(config_digest(raw), tee)
    return asyncio.run(serve(config, choose_mind(config), identity, arguments.listen, arguments.model))


def _tee(arguments: argparse.Namespace) -> SimulatedTee:
    validity = Validity(arguments.not_before, arguments.not_after)
    if arguments.kind == "snp":
        return simulated_snp(SimulatedSnp.create(arguments.seed, validity), arguments.measurement)
    return simulated_tdx(SimulatedTdx.create(arguments.seed, validity), arguments.measurement)


if __name__ == "__main__":
    sys.exit(main())
