"""window.md N15, and how a cell starts and stops: exit statuses, signals, and one line that says why."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import stat
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path

import pytest
import structlog

from anchorhold.host.broker_relay import relay
from anchorhold.host.slice_feed import propose
from appliance.config import MeasuredConfig
from appliance.identity import Identity
from appliance.key_release import Wanted
from appliance.main import runtime_starter, serve
from appliance.model_runtime import ByteScript, ModelRuntime
from appliance.serving.services import ReleaseService
from appliance.serving.window import Supply, encode_ask
from appliance.stages import Booted
from attestation.rcar.grant import GrantPurpose
from devnet.chain import Chain
from devnet.subnet import GATEWAY, Subnet
from measurements.pack.identity import Expected
from tests.cell_process import ROOT, CellProcess
from tests.little_tee import snp_tee
from tests.unit.appliance.orders import GatedEngine, chat_payload, until
from vsock_bridge.host import Host
from vsock_bridge.ports import Port
from vsock_bridge.transport import Address

NOW = 1_700_000_000_000_000_000
SUBNET = Subnet(b"main", delegated=False)
CONFIG = MeasuredConfig(GATEWAY, SUBNET.root_key, "gated", aliases=frozenset({"scripted"}))
SCRIPTED = runtime_starter(replace(CONFIG, engine="scripted-1"))


def cell(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "appliance", *arguments],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )


def asked(address: Address, item: bytes) -> bytes:
    """What the cell answers on its port for observers."""

    async def ask() -> bytes:
        async with Host(address, Port.OBSERVE) as host:
            return await host.ask(item)

    return asyncio.run(ask())


def test_it_serves_until_told_to_stop_and_leaves_no_socket(tmp_path: Path) -> None:
    with CellProcess(tmp_path, SUBNET, GATEWAY) as running:
        assert json.loads(asked(running.address, b"health"))["engine"] == "scripted-1"
        mode = stat.S_IMODE((tmp_path / "cell.sock").stat().st_mode)
        assert mode == 0o600  # secrecy.md S10
        assert running.stop(signal.SIGTERM) == 0
        assert [event["event"] for event in running.events] == ["serving", "stopped"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["cell.toml"]


def test_an_interrupt_stops_it_too(tmp_path: Path) -> None:
    with CellProcess(tmp_path, SUBNET, GATEWAY) as running:
        assert running.stop(signal.SIGINT) == 0


def test_a_killed_cell_leaves_a_socket_that_the_next_one_replaces(tmp_path: Path) -> None:
    with CellProcess(tmp_path, SUBNET, GATEWAY) as running:
        assert running.stop(signal.SIGKILL) == -signal.SIGKILL
    assert (tmp_path / "cell.sock").exists()
    with CellProcess(tmp_path, SUBNET, GATEWAY) as running:
        assert running.stop() == 0


def test_a_second_cell_on_the_same_socket_says_so_in_one_line(tmp_path: Path) -> None:
    with CellProcess(tmp_path, SUBNET, GATEWAY) as running:
        ended = cell(tmp_path, "--config", "cell.toml", "--listen", str(running.address))
        assert ended.returncode == 1
        (line,) = ended.stderr.splitlines()
        told = json.loads(line)
        assert told["event"] == "refused to start"
        assert told["exception"]["errno"] == "EADDRINUSE"
        assert told["address"] == str(running.address)
        assert asked(running.address, b"health")  # the first is unharmed


def test_a_folder_that_does_not_exist(tmp_path: Path) -> None:
    CellProcess(tmp_path, SUBNET, GATEWAY, engine="scripted-1")  # writes cell.toml
    ended = cell(tmp_path, "--config", "cell.toml", "--listen", f"unix:{tmp_path}/none/cell.sock")
    assert ended.returncode == 1
    (line,) = ended.stderr.splitlines()
    assert json.loads(line)["exception"]["errno"] == "ENOENT"


@pytest.mark.parametrize(
    ("config", "stage", "code"),
    [
        (b"", "config", "fields"),
        (b"\xff", "config", "toml"),
        (b'gateway = "a"\nroot_key = "b"\nengine = "c"\n', "format", "principal.text"),
    ],
)
def test_a_configuration_that_is_refused_is_named(tmp_path: Path, config: bytes, stage: str, code: str) -> None:
    (tmp_path / "cell.toml").write_bytes(config)
    ended = cell(tmp_path, "--config", "cell.toml", "--listen", "unix:cell.sock")
    assert ended.returncode == 1
    (line,) = ended.stderr.splitlines()
    told = json.loads(line)
    assert (told["event"], told["config"]) == ("refused to start", "cell.toml")
    assert (told["exception"]["stage"], told["exception"]["code"]) == (stage, code)
    assert not (tmp_path / "cell.sock").exists()


def test_an_engine_nobody_has(tmp_path: Path) -> None:
    CellProcess(tmp_path, SUBNET, GATEWAY, engine="another-1")
    ended = cell(tmp_path, "--config", "cell.toml", "--listen", "unix:cell.sock")
    assert ended.returncode == 1
    assert json.loads(ended.stderr)["exception"]["code"] == "engine"


def test_no_configuration_at_all(tmp_path: Path) -> None:
    ended = cell(tmp_path, "--config", "none.toml", "--listen", "unix:cell.sock")
    assert ended.returncode == 1
    told = json.loads(ended.stderr)
    assert (told["config"], told["exception"]["errno"]) == ("none.toml", "ENOENT")


@pytest.mark.parametrize("address", ["memory:x", "tcp:1", "unix:", "vsock:x"])
def test_an_address_that_is_no_window(tmp_path: Path, address: str) -> None:
    ended = cell(tmp_path, "--config", "cell.toml", "--listen", address)
    assert ended.returncode == 2
    assert "address: expected" in ended.stderr
    assert "Traceback" not in ended.stderr


# -- in this process, with engines that misbehave


def one_block(*texts: str) -> Chain:
    chain = Chain(SUBNET, GATEWAY, seed=b"main")
    chain.seal([chat_payload(text) for text in texts], NOW)
    return chain


async def served(engine: GatedEngine, chain: Chain, address: Address, then: signal.Signals | None) -> int:
    """Serve until a block is supplied; then signal ourselves, or wait for the engine to fail. The exit status."""
    runtime, nobody = ModelRuntime(engine, ByteScript()), Identity(bytes(32), None)
    serving = asyncio.create_task(serve(Booted.of(CONFIG, lambda _: runtime, nobody), address))
    try:
        await until(Path(address.place).exists)
        async with Host(address, Port.STREAM) as host:
            await propose(host, chain.proof(1, 1, NOW + 1))
            exchange = await host.submit(encode_ask(Supply(chain.body(1))))
            await asyncio.to_thread(engine.began.wait)
            if then is not None:
                signal.raise_signal(then)
            status = await serving
            assert exchange.outcome is None  # nothing was said to the end
            return status
    finally:
        serving.cancel()


@pytest.fixture
def quiet() -> object:
    """Logs of a cell in this process, kept as what they are."""
    with structlog.testing.capture_logs() as lines:
        yield lines


def test_an_engine_that_fails_ends_the_cell_with_70(tmp_path: Path, quiet: list[dict[str, object]]) -> None:
    """window.md N15"""
    address = Address.parse(f"unix:{tmp_path}/cell.sock")
    engine = GatedEngine()
    assert asyncio.run(served(engine, one_block("break", "never"), address, None)) == 70
    assert engine.asked == [b"break"]
    assert quiet[-1]["event"] == "the engine failed"
    assert not (tmp_path / "cell.sock").exists()


def test_a_signal_while_an_answer_is_under_way_ends_it_with_0(tmp_path: Path, quiet: list[dict[str, object]]) -> None:
    address = Address.parse(f"unix:{tmp_path}/cell.sock")
    engine = GatedEngine()
    assert asyncio.run(served(engine, one_block("on and on"), address, signal.SIGTERM)) == 0
    engine.more.set()
    assert engine.ended.wait(30)
    assert quiet[-1]["event"] == "stopped"
    for thread in threading.enumerate():
        if thread.name.startswith("device"):
            thread.join(30)
            assert not thread.is_alive()


def test_a_process_told_to_stop_while_busy_stops(tmp_path: Path) -> None:
    """The same from outside: a full block is being answered when the signal comes."""
    chain = Chain(SUBNET, GATEWAY, seed=b"busy")
    chain.seal([chat_payload("x" * 4000)] * 200, NOW)

    async def begin(address: Address) -> None:
        async with Host(address, Port.STREAM) as host:
            await propose(host, chain.proof(1, 1, NOW + 1))
            exchange = await host.submit(encode_ask(Supply(chain.body(1))))
            async for _ in exchange:
                return  # it has begun to answer

    with CellProcess(tmp_path, SUBNET, GATEWAY) as running:
        asyncio.run(begin(running.address))
        assert running.stop(signal.SIGTERM) == 0
    assert running.events[-1]["event"] == "stopped"


def test_a_cell_that_no_broker_gives_a_key_ends_with_72(tmp_path: Path, quiet: list[dict[str, object]]) -> None:
    """boot.md J12"""
    address = Address.parse(f"unix:{tmp_path}/cell.sock")
    wanted = Wanted(bytes(32), "default/model-key/little", GrantPurpose.MODEL, bytes(32))
    config = replace(CONFIG, release=wanted, model=Expected(model_root=bytes(32)))
    booted = Booted.of(config, SCRIPTED, Identity(bytes(32), snp_tee()), tmp_path / "no.pack")

    async def turned_away() -> int:
        serving = asyncio.create_task(serve(booted, address))
        await until(Path(address.place).exists)
        async with Host(address, Port.RELEASE) as host:
            for _ in range(ReleaseService.ATTEMPTS_MAX):
                assert (await relay(host, lambda _: (403, b""))).failure == "broker.403"
            return await serving

    assert asyncio.run(turned_away()) == 72
    assert quiet[-1] == {"event": "no broker gave a key", "attempts": 16, "log_level": "error"}


def test_a_memory_address_already_taken_is_refused(quiet: list[dict[str, object]]) -> None:
    async def twice() -> int:
        address = Address.parse("memory:taken")
        first = asyncio.create_task(serve(Booted.of(CONFIG, SCRIPTED, Identity(bytes(32), None)), address))
        await until(lambda: any(line["event"] == "serving" for line in quiet))
        status = await serve(Booted.of(CONFIG, SCRIPTED, Identity(bytes(32), None)), address)
        first.cancel()
        await asyncio.gather(first, return_exceptions=True)
        return status

    assert asyncio.run(twice()) == 1


def test_a_dead_sockets_file_of_another_kind_is_not_removed(tmp_path: Path) -> None:
    """Something that is no socket stands where the window should be: refused, and left alone."""
    CellProcess(tmp_path, SUBNET, GATEWAY)
    (tmp_path / "cell.sock").write_text("mine")
    ended = cell(tmp_path, "--config", "cell.toml", "--listen", "unix:cell.sock")
    assert ended.returncode == 1
    assert (tmp_path / "cell.sock").read_text() == "mine"
