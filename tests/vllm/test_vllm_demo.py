"""The whole path with vLLM as the cell's engine, and its profile proven and refused in processes of their own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from appliance.models.pack_folder import MEMORY

pytestmark = pytest.mark.vllm
pytest.importorskip("vllm", reason="vllm is not installed here: `make vllm` brings it")

ROOT = Path(__file__).resolve().parents[2]


def anchorhold(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "anchorhold.command", *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, **environment},
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the demo leaves."""
    before = set(MEMORY.glob("model-*"))
    left = tmp_path_factory.mktemp("demo")
    ended = anchorhold("demo", "--engine", "vllm", "--folder", str(left))
    assert ended.returncode == 0, ended.stderr
    lines = ended.stdout.splitlines()
    assert lines[-1] == "audit: ok"
    assert any(line.lstrip().startswith("7 answers computed again") and "vllm-1" in line for line in lines)
    assert set(MEMORY.glob("model-*")) <= before
    return left


def test_the_cell_answered_with_vllm_and_nothing_wrote_past_its_log(folder: Path) -> None:
    assert 'engine = "vllm-1"' in (folder / "cell.toml").read_text()
    assert all(line.startswith("{") for line in (folder / "cell.log").read_text().splitlines())


def test_its_profile_is_proven_again_and_refused_under_another_variable(folder: Path) -> None:
    """profile.md F3, F4: vLLM's bits hang on the machine, so what chooses code on it is compared."""
    assert anchorhold("engine", "check", str(folder / "model")).returncode == 0
    drifted = anchorhold("engine", "check", str(folder / "model"), MKL_DYNAMIC="FALSE")
    assert drifted.returncode == 4
    assert 'profile: machine.environment.MKL_DYNAMIC: expected none, got "FALSE"' in drifted.stderr
