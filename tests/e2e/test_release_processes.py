"""The whole release as it is deployed: a cell, a broker and a relay, three processes, over a socket and HTTPS."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from anchorhold.owner.broker_process import initialise, open_broker
from appliance.config import config_digest
from attestation.broker.administration import add_release, add_secret, set_release
from attestation.broker.log import audit
from attestation.broker.session import Release
from attestation.consensus.principal import to_text
from attestation.decision_log.words import ReleaseState
from devnet.broker import measurement_of
from devnet.subnet import GATEWAY, Subnet
from devnet.tee import collateral_json, policy_document, reference_values, simulated_tdx
from foundation.secrecy import Secret
from tests.little_broker import MODEL_KEY, MODEL_ROOT
from tests.little_tee import MEASUREMENT, SEED, VALIDITY, tdx_platform
from tests.simulation.broker_under_fire import ROOT, Process

TEE = simulated_tdx(tdx_platform(), MEASUREMENT)


def prepare(folder: Path) -> bytes:
    """A broker for the devnet's machine, and the cell's configuration that names it."""
    folder.mkdir()
    (folder / "policy.toml").write_bytes(policy_document(TEE))
    ppid = next(iter(reference_values(TEE).allowed("tdx.ppid")))
    (folder / "references.toml").write_text(f'[tdx]\nppid = ["{ppid.hex()}"]\n')
    (folder / "root.der").write_bytes(TEE.root.der)
    (folder / "collateral.json").write_bytes(collateral_json(TEE.platform))
    public = initialise(folder, store="sqlite:///broker.db", wrapping="file:kek", policy="policy.toml").public
    config = folder / "broker.toml"
    config.write_text(
        config.read_text().replace(":8443", ":0") + 'simulated_root = "root.der"\n'
        '[endorsements]\ntdx = "collateral.json"\n'
    )
    raw = (
        f'gateway = "{to_text(GATEWAY)}"\nroot_key = "{Subnet(b"e2e").root_key.hex()}"\nengine = "scripted-1"\n'
        f'[release]\nbroker_key = "{public.hex()}"\nresource = "{MODEL_KEY}"\nmodel_root = "{MODEL_ROOT.hex()}"\n'
    ).encode()
    (folder / "cell.toml").write_bytes(raw)
    opened = open_broker(config)
    release = Release("devnet", measurement_of(TEE), MODEL_ROOT, config_digest(raw), ReleaseState.PROPOSED)
    add_release(opened.store, release, 1)
    add_secret(
        opened.store,
        opened.wrapping,
        MODEL_KEY,
        Secret(b"the model's own key, 32 bytes ..."),
        model_root=MODEL_ROOT,
        now_ns=1,
    )
    opened.store.close()
    return public


@pytest.mark.slow
def test_denied_then_approved_then_released(tmp_path: Path) -> None:
    folder = tmp_path / "b"
    prepare(folder)
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    cell = subprocess.Popen(
        [
            sys.executable,
            "-m",
            "devnet.cell",
            "--config",
            str(folder / "cell.toml"),
            "--listen",
            f"unix:{folder}/cell.sock",
            "--seed",
            SEED.hex(),
            "--not-before",
            VALIDITY.start.isoformat(),
            "--not-after",
            VALIDITY.end.isoformat(),
            "--measurement",
            MEASUREMENT.hex(),
        ],
        cwd=folder,
        env=environment,
        stderr=subprocess.PIPE,
        text=True,
    )
    broker = Process(folder)
    broker.start()
    assert cell.stderr is not None
    lines = [cell.stderr.readline()]
    while '"serving"' not in lines[-1]:
        assert lines[-1], lines
        lines.append(cell.stderr.readline())

    def relay() -> tuple[int, dict[str, str]]:
        done = subprocess.run(
            [
                sys.executable,
                "-m",
                "anchorhold.command",
                "host",
                "relay",
                f"unix:{folder}/cell.sock",
                "--broker",
                f"https://localhost:{broker.port}",
                "--authority",
                str(folder / "tls.pem"),
            ],
            cwd=folder,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        return done.returncode, json.loads(done.stdout)

    try:
        assert relay() == (4, {"state": "needs-key", "failure": "broker.403"})
        opened = open_broker(folder / "broker.toml")
        set_release(opened.store, "devnet", ReleaseState.APPROVED, 2)
        assert relay() == (0, {"state": "has-key", "failure": None})
        assert relay() == (0, {"state": "has-key", "failure": None})
        audit(opened.store, opened.keys.public)
        opened.store.close()
    finally:
        broker.kill()
        cell.terminate()
        said = "".join(lines) + cell.stderr.read()
        cell.stderr.close()
        cell.wait()
    assert "the model" not in said
    assert '"state": "HAS_KEY"' in said
