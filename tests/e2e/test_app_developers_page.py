"""The lines at the top of docs/for-app-developers.md do what the page says: they are taken from it and run."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from attestation.consensus.blocks import Block
from attestation.consensus.chat import ChatRequest
from attestation.consensus.chat_limits import RAISED
from attestation.consensus.principal import to_text
from devnet import little_model
from devnet.gateway import ARTEFACTS, Gateway, gateway_wasm
from devnet.lone_gateway import OWNER, REPORTER, Clock, canister, person, report_on
from devnet.replica import NO_ARGUMENTS, Network, Replica
from devnet.subnet import GATEWAY
from foundation.candid import TEXT, decode, encode
from tests.devnet_up import up
from tests.node_packages import fetched

pytestmark = pytest.mark.node
CLIENTS = Path(__file__).resolve().parents[1] / "clients"
PAGE = Path(__file__).resolve().parents[2] / "docs" / "for-app-developers.md"
APP, USER = canister(0x4242), person(1)


def lines_of(language: str) -> str:
    found = re.search(rf"```{language}\n(.*?)```", PAGE.read_text("utf-8"), re.DOTALL)
    assert found is not None
    assert found[1].count("\n") <= 12
    return found[1]


def test_the_motoko_lines_compile_and_ask(tmp_path: Path) -> None:
    fetched(ARTEFACTS)
    (tmp_path / "ask.mo").write_text(lines_of("motoko"))
    command = ["node", str(ARTEFACTS / "compile.mjs"), str(tmp_path / "ask.mo"), str(tmp_path / "ask.wasm")]
    subprocess.run(command, check=True)
    clock = Clock()
    network = Network(clock=clock, randomness=lambda: bytes(32))
    network.create(GATEWAY, controllers={OWNER}).install(gateway_wasm(), NO_ARGUMENTS, OWNER)
    gateway = Gateway(Replica.of(network, GATEWAY))
    gateway.set_reporters(OWNER, [REPORTER])
    app = network.create(APP, controllers={OWNER})
    app.change(environment={"PUBLIC_CANISTER_ID:llm": to_text(GATEWAY)})
    app.install((tmp_path / "ask.wasm").read_bytes(), NO_ARGUMENTS, OWNER)
    call = network.submit(APP, "ask", encode([TEXT], ["hello"]), USER)
    for _ in range(10):
        clock.now_ns += 1_000_000_000
        network.round()
        if gateway.status()["head_height"] == 1 and gateway.answer_digest(1, 0) is None:
            gateway.report_answer(REPORTER, report_on(gateway, 1, 0, b"good day"))
    assert decode([TEXT], call.reply()) == ["good day"]
    [request] = Block.decode(gateway.get_slice(1).encoded[0]).requests
    assert ChatRequest.decode(request.payload, RAISED).model == little_model.NAME


def test_the_typescript_lines_ask_a_running_devnet(tmp_path: Path) -> None:
    fetched(CLIENTS)
    page = CLIENTS / "page.mjs"  # where Node finds the packages
    page.write_text(lines_of("typescript"))
    try:
        with up(tmp_path / "net") as devnet:
            said = devnet.line
            done = subprocess.run(
                ["node", page.name, said["ic"], said["root_key"], said["gateway"]],
                cwd=CLIENTS,
                capture_output=True,
                text=True,
                timeout=200,
                check=False,
            )
    finally:
        page.unlink()
    assert done.returncode == 0, done.stderr
    words, _, receipt_bytes = done.stdout.strip().rpartition(" ")
    assert words
    assert int(receipt_bytes) > 300
