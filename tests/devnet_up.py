"""`anchorhold devnet up` as a process, for tests that speak with it from outside."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from anchorhold.host.gateway_client import GatewayClient
from attestation.consensus.principal import from_text
from devnet.agent import Agent, Remote
from devnet.subnet import DER_PREFIX

COMMAND = (sys.executable, "-m", "anchorhold.command", "devnet", "up")


@dataclass
class Devnet:
    process: subprocess.Popen[str]
    line: dict[str, Any]

    @property
    def url(self) -> str:
        return str(self.line["ic"])

    @property
    def root_key(self) -> bytes:
        """Without its prefix."""
        return bytes.fromhex(self.line["root_key"]).removeprefix(DER_PREFIX)

    @property
    def model(self) -> str:
        """What a request calls the model by."""
        return str(self.line["model"])

    @property
    def gateway_id(self) -> bytes:
        return from_text(self.line["gateway"])

    def agent(self, key: Ed25519PrivateKey | None = None) -> Agent:
        return Agent(self.url, self.root_key, key)

    def gateway(self, agent: Agent) -> GatewayClient:
        return GatewayClient(Remote(agent, self.gateway_id))

    def kill(self) -> None:
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()


@contextmanager
def up(folder: Path, *arguments: str) -> Iterator[Devnet]:
    """Runs until the block ends, and must then end orderly, unless it was killed inside."""
    with (folder.parent / f"{folder.name}.err").open("a+") as said:
        process = subprocess.Popen(
            [*COMMAND, "--folder", str(folder), "--ic-port", "0", "--engine", "scripted", *arguments],
            stdout=subprocess.PIPE,
            stderr=said,
            text=True,
        )
        assert process.stdout is not None
        try:
            line = process.stdout.readline()
            if not line:
                process.wait()
                said.seek(0)
                raise AssertionError(f"exit status {process.returncode}: {said.read()}")
            yield Devnet(process, json.loads(line))
        finally:
            killed = process.poll() is not None
            process.send_signal(signal.SIGTERM)
            rest, _ = process.communicate(timeout=60)
        assert rest == ""  # one line, and no other
        assert killed or process.returncode == 0
