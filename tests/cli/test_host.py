"""`anchorhold host`: each of its jobs against a real cell, and without one."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from anchorhold.command import main
from devnet.chain import Chain
from devnet.misbehaviour import Misbehaviour
from devnet.subnet import GATEWAY, Subnet
from tests.cell_process import CellProcess
from tests.unit.appliance.orders import chat_payload
from vsock_bridge.ports import Port
from vsock_bridge.server import Answer, CellServer
from vsock_bridge.transport import Address

NOW = 1_700_000_000_000_000_000
SUBNET = Subnet(b"host verbs", delegated=False)
CHAIN = Chain(SUBNET, GATEWAY, seed=b"host verbs")
CHAIN.seal([chat_payload(words, model="scripted-1") for words in ("one", "two")], NOW + 1)
CHAIN.seal([b"no chat"], NOW + 2)


@pytest.fixture
def cell(tmp_path: Path) -> Iterator[str]:
    folder = tmp_path / "cell"
    folder.mkdir()
    with CellProcess(folder, SUBNET, GATEWAY) as running:
        yield str(running.address)


@pytest.fixture
def files(tmp_path: Path) -> dict[str, str]:
    """A slice as files; `bent` is the first body with its last request changed."""
    raws = {
        "proof": CHAIN.proof(1, 2, NOW + 9),
        "1": CHAIN.body(1),
        "2": CHAIN.body(2),
        "bent": CHAIN.body(1, misbehaviour=Misbehaviour.REQUEST_CHANGED),
        "junk": b"junk",
        "large": bytes(3 << 20),
    }
    for name, raw in raws.items():
        (tmp_path / name).write_bytes(raw)
    return {name: str(tmp_path / name) for name in raws}


class Said:
    def __init__(self, status: int, out: str, err: str) -> None:
        self.status, self.out, self.err = status, out, err

    @property
    def lines(self) -> list[dict[str, object]]:
        return [json.loads(line) for line in self.out.splitlines()]


@pytest.fixture
def host(capsys: pytest.CaptureFixture[str]) -> object:
    def run(*arguments: str) -> Said:
        status = main(["host", *arguments])
        said = capsys.readouterr()
        return Said(status, said.out, said.err)

    return run


def test_ping(cell: str, host: object) -> None:
    said = host("ping", cell, "--count", "2")
    assert (said.status, said.err) == (0, "")
    assert [line.split(":")[0] for line in said.out.splitlines()] == ["1", "2"]
    assert all(line.endswith(" us") for line in said.out.splitlines())


def test_health_and_metrics(cell: str, host: object) -> None:
    health = host("health", cell)
    assert health.status == 0
    assert json.loads(health.out)["state"] == "waiting for a first proof"
    metrics = host("metrics", cell)
    assert metrics.status == 0
    assert json.loads(metrics.out)["requests_answered"] == 0


def test_feed_and_position(cell: str, host: object, files: dict[str, str]) -> None:
    before = host("position", cell)
    assert json.loads(before.out) == {"height": 0, "link": None, "wants": None, "certified_time_ns": 0}
    fed = host("feed", "--proof", files["proof"], "--body", files["2"], "--body", files["1"], cell)
    assert (fed.status, fed.err) == (0, "")
    assert fed.lines[0] == {"said": "judged", "step": "joined", "wants": 1, "through": 2, "certified_time_ns": NOW + 9}
    assert [line["said"] for line in fed.lines if line["said"] == "answered"] == ["answered", "answered", "answered"]
    after = host("position", cell)
    assert json.loads(after.out) == {
        "height": 2,
        "link": CHAIN.link(2).hex(),
        "wants": None,
        "certified_time_ns": NOW + 9,
    }
    again = host("feed", cell, "--proof", files["proof"])
    assert [line["step"] for line in again.lines] == ["current"]


def test_words_are_shown_when_asked_for(cell: str, host: object, files: dict[str, str]) -> None:
    """secrecy.md S11"""
    said = host("feed", cell, "--proof", files["proof"], "--body", files["1"], "--words")
    words = "".join(str(line["words"]) for line in said.lines if line["said"] == "piece")
    assert "one" in words
    assert "two" in words


@pytest.mark.parametrize(
    ("proof", "body", "status", "code"),
    [
        ("proof", "bent", 4, "slice.request-root"),
        ("junk", "1", 4, "slice.encoding"),
        ("large", "1", 4, "too-large"),
        ("proof", "junk", 1, "slice.encoding"),
    ],
)
def test_a_feed_that_is_declined(
    cell: str, host: object, files: dict[str, str], proof: str, body: str, status: int, code: str
) -> None:
    said = host("feed", cell, "--proof", files[proof], "--body", files[body])
    assert said.status == status
    assert said.err.startswith("anchorhold: ")
    assert code in said.err
    assert len(said.err.splitlines()) == 1
    assert json.loads(host("position", cell).out)["height"] == 0


def test_a_file_that_is_not_there(cell: str, host: object, files: dict[str, str]) -> None:
    said = host("feed", cell, "--proof", "/nowhere/at/all")
    assert (said.status, said.out) == (1, "")
    assert said.err.startswith("anchorhold: file: file.missing: expected a slice proof in /nowhere/at/all, got ")


@pytest.mark.parametrize("job", ["ping", "health", "metrics", "position", "feed"])
def test_no_cell(host: object, files: dict[str, str], tmp_path: Path, job: str) -> None:
    said = host(job, f"unix:{tmp_path}/none.sock", *(["--proof", files["proof"]] if job == "feed" else []))
    assert (said.status, said.out) == (1, "")
    (line,) = said.err.splitlines()
    assert line.startswith("anchorhold: connect: expected port ")


def test_something_that_is_no_cell(host: object, tmp_path: Path) -> None:
    """What answers on the window speaks the frames and says nonsense: declined, one line, no traceback."""

    class Nonsense:
        async def serve(self, item: bytes, answer: Answer) -> None:
            await answer.end(b"\xffnot what was asked for")

    address = Address.parse(f"unix:{tmp_path}/other.sock")

    async def run(job: str) -> Said:
        async with CellServer(dict.fromkeys(Port, Nonsense())) as server:
            await server.start(address)
            return await asyncio.to_thread(host, job, str(address))

    for job, status in (("health", 4), ("position", 1)):
        said = asyncio.run(run(job))
        assert (said.status, said.out) == (status, "")
        assert len(said.err.splitlines()) == 1


def test_identity_of_a_cell_without_a_tee_is_declined(cell: str, host: object, tmp_path: Path) -> None:
    """window.md N18"""
    out = tmp_path / "bundle"
    said = host("identity", cell, "--nonce", "11" * 32, "--out", str(out))
    assert (said.status, out.exists()) == (4, False)
    assert "no-tee" in said.err
    assert host("identity", cell, "--nonce", "xyz", "--out", str(out)).status == 1
