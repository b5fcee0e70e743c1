"""docs/for-model-owners.md does what it says: the commands on it are taken from it and run, one after the other.

From a model's folder to a cell that answers, in at most six commands. Of a command the ports alone are changed, since
those on the page may be taken on this machine.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import shlex
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from anchorhold.command import build_parser
from anchorhold.host.gateway_client import Answered as Taken
from anchorhold.host.gateway_client import chat
from anchorhold.host.slice_feed import feed
from appliance.serving.window import Answered, Piece
from devnet.up.starting import host_key
from tests.devnet_up import Devnet
from tests.little_engine import needs_kernels
from vsock_bridge.host import Host
from vsock_bridge.ports import Port
from vsock_bridge.transport import Address

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "for-model-owners.md").read_text("utf-8")
COMMANDS_MAX = 6
SECONDS = 120
READY = ('"ic": ', '"event": "serving"')  # what a program says once it can be used


def blocks(heading: str) -> list[str]:
    section = PAGE.partition(f"\n## {heading}\n")[2].partition("\n## ")[0]
    return re.findall(r"```\n(.*?)```", section, re.DOTALL)


def commands(heading: str) -> list[str]:
    [block] = blocks(heading)
    return block.replace("\\\n", " ").splitlines()


REAL, SIMULATED = "From a folder to a serving cell", "The same on your own machine"


class Program:
    """A command that goes on running, as a process; what it says is read to the end."""

    def __init__(self, command: str, folder: Path, environment: dict[str, str]) -> None:
        self.process = subprocess.Popen(
            ["bash", "-c", f"exec {command}"],
            cwd=folder,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self._said: list[str] = []
        self._known = threading.Event()
        self.ready = ""  # the line by which it can be used
        self._reader = threading.Thread(target=self._read)
        self._reader.start()
        self._known.wait()
        assert self.ready, f"{command}: {''.join(self._said)}"

    def stop(self, number: int = signal.SIGTERM) -> int:
        if self.process.poll() is None:
            self.process.send_signal(number)
        self._reader.join()
        return self.process.wait()

    def _read(self) -> None:
        assert self.process.stdout is not None
        with self.process.stdout as stream:
            for line in stream:
                self._said.append(line)
                if not self.ready and any(word in line for word in READY):
                    self.ready = line
                    self._known.set()
        self._known.set()  # it ended without a word: whoever waits must look


@dataclass
class Shell:
    """A terminal for each command that goes on running, and one for the others."""

    folder: Path
    environment: dict[str, str]
    running: list[Program] = field(default_factory=list)

    def run(self, command: str) -> str:
        """What it says on standard output, or its line of readiness if it goes on running."""
        if command.endswith("&"):
            program = Program(command.removesuffix("&").strip(), self.folder, self.environment)
            self.running.append(program)
            return program.ready
        done = subprocess.run(
            ["bash", "-c", command], cwd=self.folder, env=self.environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, f"{command}: {done.stderr}"
        return done.stdout


@contextmanager
def shell(folder: Path) -> Iterator[Shell]:
    """In a folder that looks like a clone, as far as the page needs one."""
    (folder / "devnet").symlink_to(ROOT / "devnet")
    found = Path(sys.executable).parent
    made = Shell(folder, {**os.environ, "PYTHONPATH": str(ROOT), "PATH": f"{found}:{os.environ['PATH']}"})
    try:
        yield made
    finally:
        for program in made.running:
            program.stop(signal.SIGKILL)


def free_ports(stack: ExitStack, count: int) -> list[int]:
    sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
    for each in sockets:
        each.bind(("127.0.0.1", 0))
    return [each.getsockname()[1] for each in sockets]


def moved(command: str, ports: dict[str, int]) -> str:
    for stated, free in ports.items():
        command = command.replace(stated, str(free))
    return command


async def answer_of(address: str, proof: bytes, bodies: dict[int, bytes]) -> bytes:
    """The words that the owner's cell gives to a block of the gateway, which it signs with a receipt."""
    words, receipts = b"", 0
    async with Host(Address.parse(address), Port.STREAM) as host:
        async for say in feed(host, proof, bodies):
            words += say.words if isinstance(say, Piece) else b""
            receipts += isinstance(say, Answered)
    assert receipts == 1
    return words


@needs_kernels
@pytest.mark.slow
def test_the_commands_lead_from_a_model_to_an_answer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with ExitStack() as stack:
        ports = dict(zip(("4943", "8443"), free_ports(stack, 2), strict=True))
    lines = [moved(each, ports) for each in commands(SIMULATED)]
    assert len(lines) <= COMMANDS_MAX
    with shell(tmp_path) as terminal:
        first, *between, last = lines
        net = Devnet(line=json.loads(terminal.run(first)), process=terminal.running[0].process)
        for line in between:
            terminal.run(line)
        assert terminal.run(last) == '{"state": "has-key", "failure": null}\n'
        checked = terminal.run("anchorhold owner check build/mine")
        assert shape_of(checked) == shape_of(blocks("Whether it still fits")[0])
        app = net.agent(Ed25519PrivateKey.generate())
        gateway, me = net.gateway(app), app.principal
        ticket = gateway.submit_chat(me, chat(net.model, ("user", {"content": "What is an anchorhold?"})))
        taken = until_taken(gateway, me, ticket)
        seed = bytes.fromhex(json.loads((tmp_path / "build/net/owner.json").read_bytes())["machine_seed"])
        reporter = net.gateway(net.agent(host_key(seed, 1)))
        carried = reporter.proof_and_bodies(1)
        assert carried is not None
        proof, bodies = carried
        found = asyncio.run(answer_of("unix:build/mine/cell.sock", proof, {1: bodies[0]}))
        assert found == taken.answer  # the devnet's cell and the owner's compute one model, to the bit
        assert b"anchorhold" in found
        assert [program.stop() for program in reversed(terminal.running)] == [0, 0, 0]


def until_taken(gateway: Any, caller: bytes, ticket: int) -> Taken:
    """It comes sooner or later; it is asked for again and again, as an app does."""
    end = time.monotonic() + SECONDS
    while not isinstance(found := gateway.take_answer(caller, ticket), Taken):
        assert time.monotonic() < end, "no answer came"
        time.sleep(0.1)
    return found


def shape_of(text: str) -> str:
    """Without what is another at every run: digests, and how long the broker's log has become."""
    return re.sub(r"[0-9]+ entries", "N entries", re.sub(r"[0-9a-f]{64}", "HEX", text))


@pytest.mark.parametrize("heading", [REAL, SIMULATED])
def test_every_command_is_one_that_the_program_takes(heading: str) -> None:
    lines = commands(heading)
    assert 1 <= len(lines) <= COMMANDS_MAX
    words = [shlex.split(line.removesuffix("&")) for line in lines]
    assert [each[0] for each in words if each[0] != "anchorhold"] in ([], ["python"])
    for each in words:
        if each[0] == "anchorhold":
            assert callable(build_parser().parse_args(each[1:]).run)


def test_what_init_is_said_to_ask_is_what_it_takes() -> None:
    section = PAGE.partition("\n## What init asks\n")[2].partition("\n## ")[0]
    stated = set(re.findall(r"`(--[a-z-]+)", "\n".join(re.findall(r"^\| (`--.*?) \|", section, re.MULTILINE))))
    done = subprocess.run(
        [sys.executable, "-m", "anchorhold.command", "owner", "init", "--help"],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert stated == set(re.findall(r"^  (--[a-z-]+)", done.stdout, re.MULTILINE)) - {"--out", "--help"}
