"""A cell with the fixed engine: proven before it serves, the same words in two cells, status 73 for any drift.

window.md N19, profile.md F4 to F8, through the broker and over the window.
"""

from __future__ import annotations

import asyncio
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from anchorhold.command import main
from anchorhold.host.slice_feed import feed
from appliance.engine.profile import FILE, digest_of
from appliance.key_release import State
from appliance.serving.window import Answered, Piece
from attestation.consensus.chat import ChatRequest, Sampling, UserMessage
from devnet.chain import Chain
from devnet.demo.key_owner import key_owner
from devnet.subnet import GATEWAY
from foundation.secrecy import Prompt
from tests.e2e.test_model_admission import SUBNET, Cell
from tests.little_engine import needs_kernels, write_model
from vsock_bridge.host import Host
from vsock_bridge.ports import Port

pytestmark = needs_kernels
NOW = 1_700_000_000_000_000_000


@pytest.fixture(scope="module")
def profiled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = write_model(tmp_path_factory.mktemp("engine") / "model")
    assert main(["engine", "profile", str(folder), "--tokens", "6"]) == 0
    return folder


def payload(words: str, sampling: Sampling) -> bytes:
    return ChatRequest("little-engine", (UserMessage(Prompt(words.encode())),), sampling=sampling).encode()


CHAIN = Chain(SUBNET, GATEWAY, seed=b"profile")
CHAIN.seal(
    [
        payload("What is an anchorhold?", Sampling(max_tokens=40)),
        payload("And again?", Sampling(max_tokens=20, temperature_micro=1_000_000, min_p_micro=10_000)),
        payload("No more?", Sampling(max_tokens=20, frequency_penalty_micro=500_000, logit_bias=((65, 3_000_000),))),
        payload("x" * 5000, Sampling(max_tokens=20)),
    ],
    NOW,
)


async def answers(cell: Cell) -> tuple[bytes, int]:
    said, receipts = b"", 0
    async with Host(cell.address, Port.STREAM) as host:
        async for say in feed(host, CHAIN.proof(1, 1, NOW), {1: CHAIN.body(1)}):
            if isinstance(say, Piece):
                said += bytes([say.index]) + say.words
            receipts += isinstance(say, Answered)
    return said, receipts


def engine_line(model: Path) -> str:
    return f'engine = "fixed-1"\nplaintext = true\nprofile = "{digest_of((model / FILE).read_bytes()).hex()}"'


def run_cell(folder: Path, model: Path, *, line: str | None = None) -> tuple[dict[str, object], tuple[bytes, int], int]:
    """The cell's word on its engine, what it answered, and how it ended."""
    folder.mkdir()
    with key_owner(folder, lambda place: shutil.copytree(model, place)) as owner:
        cell = Cell(folder, owner, engine=line or engine_line(model))
        asked, said = True, (b"", 0)
        try:
            standing, _ = asyncio.run(owner.carry(cell.address))
            assert standing.state is State.HAS_KEY
            word = cell.until("engine proven", "refused the engine")
            if asked := word["event"] == "engine proven":
                cell.until("model open")
                said = asyncio.run(answers(cell))
        finally:
            status = cell.end(asked=asked)
    return word, said, status


def test_two_cells_say_the_same_and_both_are_proven_first(profiled: Path, tmp_path: Path) -> None:
    first = run_cell(tmp_path / "first", profiled)
    second = run_cell(tmp_path / "second", profiled)
    assert first[0]["golden"] == 6
    assert first[1] == second[1]
    said, receipts = first[1]
    assert receipts == 4  # the last is the refusal of a prompt that is too long
    assert {0, 1, 2} <= set(said)
    assert len(said) > 40
    assert first[2] == second[2] == 0


def changed(profile: dict[str, Any]) -> None:
    profile["golden"][0]["trace"] = "00" * 32


def drifted(profile: dict[str, Any]) -> None:
    profile["settings"]["libraries"]["tokenizers"] = "0.0.1"
    profile["settings"]["weights"] = "int8/64"


@pytest.mark.parametrize(
    ("change", "code", "differs"),
    [(changed, "golden.trace", None), (drifted, "profile.drift", ["libraries.tokenizers", "weights"])],
)
def test_an_engine_that_is_not_what_was_stated_ends_the_cell(
    profiled: Path, tmp_path: Path, change: Callable[[dict[str, Any]], None], code: str, differs: list[str] | None
) -> None:
    model = Path(shutil.copytree(profiled, tmp_path / "model"))
    profile = json.loads((model / FILE).read_bytes())
    change(profile)
    (model / FILE).write_text(json.dumps(profile), encoding="utf-8")
    word, _, status = run_cell(tmp_path / "cell", model)
    assert word["exception"]["code"] == code  # type: ignore[index]
    assert word["differs"] == differs
    assert status == 73


def test_another_profile_than_the_measured_one_ends_the_cell(profiled: Path, tmp_path: Path) -> None:
    line = f'engine = "fixed-1"\nprofile = "{"00" * 32}"'
    word, _, status = run_cell(tmp_path / "cell", profiled, line=line)
    assert word["exception"]["code"] == "profile.digest"  # type: ignore[index]
    assert status == 73
