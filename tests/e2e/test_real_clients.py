"""Clients that others wrote, unmodified, against `anchorhold devnet up`: the JavaScript agent, the `icp` command line,
the Python agent. Each checks certificates under the root key that `up` printed, and refuses under another.

The first two come with npm (tests/clients); without node, or without those packages, their tests say that they skip, or
fail if ANCHORHOLD_REQUIRE_ALL=1.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from attestation.consensus.principal import to_text
from devnet.replica import MANAGEMENT_CANISTER
from foundation.candid import BLOB, NULL, PRINCIPAL, Opt, Record, Variant, decode, encode
from tests.devnet_up import Devnet, up
from tests.hello import INTERFACE, hello_wasm
from tests.local_ic import Identity

CLIENTS = Path(__file__).resolve().parents[1] / "clients"
PACKAGES = CLIENTS / "node_modules"
ICP = PACKAGES / "@icp-sdk" / "icp-cli-linux-x64" / "bin" / "icp"
SECONDS = 300
_CREATED = Record({"canister_id": PRINCIPAL})
_INSTALL = Record({"mode": Variant({"install": NULL}), "canister_id": PRINCIPAL, "wasm_module": BLOB, "arg": BLOB})


@pytest.fixture(scope="module")
def devnet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Devnet]:
    with up(tmp_path_factory.mktemp("clients") / "net") as made:
        yield made


@pytest.fixture(scope="module")
def node_packages() -> Path:
    """The packages of tests/clients, fetched once as they are locked."""
    if shutil.which("node") is None or shutil.which("npm") is None:
        return _absent("node and npm are unavailable here")
    with (CLIENTS / ".npmrc").open() as lock:  # tests run in several processes
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not ICP.is_file():
            command = ["npm", "ci", "--no-audit", "--no-fund", "--loglevel=error"]
            if subprocess.run(command, cwd=CLIENTS, capture_output=True, check=False).returncode:
                return _absent("npm cannot fetch the packages of tests/clients here")
    return PACKAGES


def _absent(why: str) -> Path:
    pytest.skip(why)


@pytest.fixture(scope="module")
def hello(devnet: Devnet) -> str:
    """A hello-world canister, created and installed over HTTP by somebody with a key of their own."""
    agent = devnet.agent(Identity().ed25519())
    nothing = encode([Record({"amount": Opt(NULL), "settings": Opt(NULL)})], [{"amount": None, "settings": None}])
    reply = agent.call(MANAGEMENT_CANISTER, "provisional_create_canister_with_cycles", nothing, devnet.gateway_id)
    made: bytes = decode([_CREATED], reply)[0]["canister_id"]
    module = {"mode": ("install", None), "canister_id": made, "wasm_module": hello_wasm(), "arg": b""}
    agent.call(MANAGEMENT_CANISTER, "install_code", encode([_INSTALL], [module]), made)
    return to_text(made)


def told(command: list[str], **more: Any) -> dict[str, Any]:
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=SECONDS, **more)
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


@pytest.mark.node
def test_the_javascript_agent(devnet: Devnet, hello: str, node_packages: Path) -> None:
    line = devnet.line
    found = told(["node", "agent.mjs", devnet.url, line["root_key"], line["gateway"], hello, devnet.model], cwd=CLIENTS)
    for name in ("ed25519", "secp256k1", "p-256", "delegated"):
        assert found[name]["who"] == found[name]["principal"]
        assert found[name]["greeting"] == "Hello, world"
        assert "on purpose" in found[name]["rejected"]
    assert found["delegated"]["principal"] == found["ed25519"]["principal"]
    assert found["version2"]["status"] == 202
    assert found["gateway"]["height"] >= 1
    assert min(found["gateway"]["answer"], found["gateway"]["receipt"]) > 0
    assert "delegation.targets" in found["target"]
    for refused in (found["wrongKey"], found["mainnetKey"]):
        assert refused.startswith("TrustError: ")


def icp(project: Path, *arguments: str) -> str:
    done = subprocess.run(
        [str(ICP), *arguments],
        cwd=project,
        capture_output=True,
        text=True,
        check=False,
        timeout=SECONDS,
        env={"HOME": str(project / "home"), "PATH": os.environ["PATH"], "NO_COLOR": "1"},
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


_PROJECT = """
canisters:
  - name: hello
    build:
      steps:
        - type: pre-built
          path: hello.wasm
networks:
  - name: devnet
    mode: connected
    url: {url}
    root-key: {root_key}
environments:
  - name: dev
    network: devnet
    canisters: [hello]
"""


@pytest.mark.node
def test_the_icp_command_line_deploys_calls_queries_and_asks_for_the_status(
    devnet: Devnet, node_packages: Path, tmp_path: Path
) -> None:
    (tmp_path / "home").mkdir()
    (tmp_path / "hello.wasm").write_bytes(hello_wasm())
    (tmp_path / "icp.yaml").write_text(_PROJECT.format(url=devnet.url, root_key=devnet.line["root_key"]))
    icp(tmp_path, "identity", "new", "me", "--storage", "plaintext")
    icp(tmp_path, "identity", "default", "me")
    me = icp(tmp_path, "identity", "principal").strip()
    assert "healthy" in icp(tmp_path, "network", "ping", "devnet")
    assert "Deployed canisters" in icp(tmp_path, "deploy", "-e", "dev")
    assert me in icp(tmp_path, "canister", "call", "hello", "who", "()", "-e", "dev")
    assert "Hello, world" in icp(tmp_path, "canister", "call", "hello", "greet", "()", "--query", "-e", "dev")
    status = icp(tmp_path, "canister", "status", "hello", "-e", "dev")
    assert me in status
    assert "Running" in status
    assert INTERFACE.split()[3] in icp(tmp_path, "canister", "metadata", "hello", "candid:service", "-e", "dev")
    icp(tmp_path, "canister", "stop", "hello", "-e", "dev")
    assert "Stopped" in icp(tmp_path, "canister", "status", "hello", "-e", "dev")
    icp(tmp_path, "canister", "start", "hello", "-e", "dev")
    assert "Deployed canisters" in icp(tmp_path, "deploy", "-e", "dev", "-m", "upgrade", "-y")


def test_the_python_agent(devnet: Devnet, hello: str) -> None:
    command = [sys.executable, str(CLIENTS / "python_agent.py"), devnet.url, devnet.line["root_key"], hello]
    found = told(command, env={**os.environ, "PYTHONPATH": str(CLIENTS)})
    for name in ("ed25519", "secp256k1", "p256"):
        assert found[name]["who"] == found[name]["principal"]
        assert found[name]["greeting"] == "Hello, world"
        assert "on purpose" in found[name]["rejected"]
    assert found["wrong_key"]
