"""Clients that others wrote, unmodified, against `anchorhold devnet up`: the JavaScript agent, the `icp` command line,
the Python agent. Each checks certificates under the root key that `up` printed, and refuses under another.

The first two come with npm (tests/clients). Without it their tests say that they skip, or fail if
ANCHORHOLD_REQUIRE_ALL=1.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from anchorhold.client import Answer, Expected, Taken, chat, open_plain
from attestation.consensus.chat import Sampling
from attestation.consensus.principal import from_text, to_text
from attestation.receipts.outcome import Finish
from devnet.demo.run import PRICE
from devnet.replica import MANAGEMENT_CANISTER
from foundation.candid import BLOB, NULL, PRINCIPAL, Opt, Record, Variant, decode, encode
from foundation.digests import tagged_sha256
from tests.devnet_up import Devnet, up
from tests.hello import INTERFACE, hello_wasm
from tests.local_ic import Identity
from tests.node_packages import fetched

CLIENTS = Path(__file__).resolve().parents[1] / "clients"
ICP = CLIENTS / "node_modules" / "@icp-sdk" / "icp-cli-linux-x64" / "bin" / "icp"
SECONDS = 300
_CREATED = Record({"canister_id": PRINCIPAL})
_INSTALL = Record({"mode": Variant({"install": NULL}), "canister_id": PRINCIPAL, "wasm_module": BLOB, "arg": BLOB})


@pytest.fixture(scope="module")
def devnet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Devnet]:
    with up(tmp_path_factory.mktemp("clients") / "net") as made:
        yield made


@pytest.fixture(scope="module")
def node_packages() -> Path:
    return fetched(CLIENTS)


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


def read(devnet: Devnet, reply: dict[str, Any], caller: bytes, words: str, sampling: Sampling | None = None) -> Answer:
    """What a reply of `v1_chat` says, if a cell of this devnet signed that these bytes answer this very request."""
    [content] = reply["content"]
    height, index, number = reply["position"]
    receipt = bytes.fromhex(reply["receipt"])
    assert reply["digest"] == tagged_sha256("anchorhold/receipt/body/v1", receipt).hex()
    keys = {cell["reporter"]: bytes.fromhex(cell["receipt_key"]) for cell in devnet.line["cells"]}
    [(reporter, signature)] = reply["signatures"]
    return open_plain(
        Taken(height, index, number, content.encode(), receipt, bytes.fromhex(signature)),
        keys[reporter],
        Expected(price=PRICE),
        gateway=devnet.gateway_id,
        caller=caller,
        payload=chat(devnet.model, words, sampling=sampling).encode(),
    )


@pytest.mark.node
def test_the_javascript_agent_waits_for_its_answers(devnet: Devnet, node_packages: Path) -> None:
    """The scripted engine ends with the last words it was asked, one token a byte."""
    line = devnet.line
    found = told(["node", "chat.mjs", devnet.url, line["root_key"], line["gateway"], devnet.model], cwd=CLIENTS)
    caller = from_text(found["principal"])
    assert found["v0"].endswith("over v0")
    assert found["secp256k1"].endswith("from secp256k1")
    assert found["old"]["message"]["content"][0].endswith("over an old v1")
    for name, words in (("unsampled", "not sampled"), ("delegated", "by delegation")):
        assert found[name]["content"][0].endswith(words)
        assert read(devnet, found[name], caller, words).finish is Finish.STOP
    sampled = read(devnet, found["sampled"], caller, "sampled", Sampling(max_tokens=4, seed=7))
    assert (len(sampled.words.reveal()), sampled.finish, sampled.receipt.tokens_out) == (4, Finish.LENGTH, 4)
    twice = found["readTwice"]
    assert twice["status"] == 202
    assert read(devnet, twice["today"], caller, "read twice").finish is Finish.STOP
    assert twice["old"] == {"message": {"content": twice["today"]["content"], "tool_calls": []}}
    assert "Reject text: sampling.max_tokens: expected 1 to " in found["noTokens"], found["noTokens"]
    assert "model.not-served: " in found["otherModel"]
    assert found["wrongKey"].startswith("TrustError: ")


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
    user = 'record { role = variant { user }; content = "over icp" }'
    question = f'(record {{ model = "{devnet.model}"; messages = vec {{ {user} }} }})'
    assert 'over icp")' in icp(tmp_path, "canister", "call", devnet.line["gateway"], "v0_chat", question, "-e", "dev")
    assert INTERFACE.split()[3] in icp(tmp_path, "canister", "metadata", "hello", "candid:service", "-e", "dev")
    icp(tmp_path, "canister", "stop", "hello", "-e", "dev")
    assert "Stopped" in icp(tmp_path, "canister", "status", "hello", "-e", "dev")
    icp(tmp_path, "canister", "start", "hello", "-e", "dev")
    assert "Deployed canisters" in icp(tmp_path, "deploy", "-e", "dev", "-m", "upgrade", "-y")


def test_the_python_agent(devnet: Devnet, hello: str) -> None:
    line = devnet.line
    arguments = [devnet.url, line["root_key"], hello, line["gateway"], devnet.model]
    command = [sys.executable, str(CLIENTS / "python_agent.py"), *arguments]
    found = told(command, env={**os.environ, "PYTHONPATH": str(CLIENTS)})
    for name in ("ed25519", "secp256k1", "p256"):
        assert found[name]["who"] == found[name]["principal"]
        assert found[name]["greeting"] == "Hello, world"
        assert "on purpose" in found[name]["rejected"]
    assert found["v0"].endswith("from the Python agent")
    assert found["wrong_key"]
