"""`anchorhold engine`: a profile is written and proven, and whatever differs is named with its exit status.

profile.md F1, F4 to F7, on a real model folder and a real pack.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from anchorhold.command import main
from appliance.engine.profile import FILE, digest_of
from measurements.pack.pack_writer import seal_pack
from tests.elsewhere import brought
from tests.little_engine import needs_kernels, write_model
from tests.packs import KEY, OTHER_KEY

pytestmark = needs_kernels
ROOT = Path(__file__).resolve().parents[2]


def engine(*words: object) -> int:
    return main(["engine", *map(str, words)])


@pytest.fixture(scope="module")
def profiled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model with its profile, written once."""
    folder = write_model(tmp_path_factory.mktemp("engine") / "model")
    assert engine("profile", folder, "--tokens", "8") == 0
    return folder


@pytest.fixture
def model(profiled: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(profiled, tmp_path / "model"))


def edit(folder: Path, name: str, change: Callable[[Any], None]) -> None:
    document = json.loads((folder / name).read_bytes())
    change(document)
    (folder / name).write_text(json.dumps(document), encoding="utf-8")


def test_a_profile_is_proven_where_it_was_written(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    digest = digest_of((model / FILE).read_bytes()).hex()
    for threads in (1, 3):
        assert engine("check", model, "--profile", digest, "--threads", threads) == 0
        said = capsys.readouterr().out
        assert f"{digest}, as expected" in said
        assert "golden prompts  6, each as it was" in said


@pytest.mark.parametrize("name", ["torch-1", "vllm-1"])
def test_an_engine_that_is_not_installed_is_refused_by_name(model: Path, tmp_path: Path, name: str) -> None:
    """In a process of its own, where neither library is found: vLLM's settings are left in the environment."""
    code = (
        "import sys; sys.modules.update(torch=None, vllm=None); from anchorhold.command import main; "
        "raise SystemExit(main(sys.argv[1:]))"
    )
    ended = subprocess.run(
        [
            sys.executable,
            "-c",
            code,
            "engine",
            "profile",
            str(model),
            "--engine",
            name,
            "--out",
            str(tmp_path / "profile.json"),
        ],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 1
    assert ended.stderr == (
        f"anchorhold: profile: profile.engine: expected what {name} stands on, got no torch (`make vllm` brings it)\n"
    )
    assert not (tmp_path / "profile.json").exists()


def test_writing_it_again_gives_the_same_bytes(model: Path, tmp_path: Path) -> None:
    assert engine("profile", model, "--tokens", "8", "--threads", "3", "--out", tmp_path / "again.json") == 0
    assert (tmp_path / "again.json").read_bytes() == (model / FILE).read_bytes()


def test_a_profile_is_not_written_over(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = (model / FILE).read_bytes()
    assert engine("profile", model) == 1
    assert (model / FILE).read_bytes() == before
    assert FILE in capsys.readouterr().err


def test_a_shorter_length_is_stated_and_kept(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (model / FILE).unlink()
    assert engine("profile", model, "--length", "40", "--tokens", "8") == 0
    assert json.loads((model / FILE).read_bytes())["settings"]["length_max"] == 40
    assert engine("check", model) == 0
    edit(model, FILE, lambda profile: profile["settings"].update(length_max=4000))
    capsys.readouterr()
    assert engine("check", model) == 4
    assert "length_max: expected 4000, got 256" in capsys.readouterr().err


def _other(text: str) -> str:
    return text[:-1] + ("0" if text[-1] != "0" else "1")


DRIFTS: dict[str, Callable[[Path], None]] = {
    "config": lambda folder: edit(folder, "config.json", lambda config: config.update(transformers_version="4")),
    "tokenizer": lambda folder: edit(folder, "tokenizer_config.json", lambda config: config.update(more=1)),
    "template": lambda folder: (folder / "chat_template.jinja").write_text("{{ messages[0].content }}"),
    "defaults.top_k": lambda folder: edit(folder, "card.json", lambda card: card["sampling"].update(top_k=41)),
    "libraries.tokenizers": lambda folder: edit(
        folder, FILE, lambda profile: profile["settings"]["libraries"].update(tokenizers="0.0.1")
    ),
    "kernels": lambda folder: edit(
        folder, FILE, lambda profile: profile["settings"].update(kernels=_other(profile["settings"]["kernels"]))
    ),
}


@pytest.mark.parametrize("field", DRIFTS)
def test_what_differs_is_named_with_status_four(model: Path, capsys: pytest.CaptureFixture[str], field: str) -> None:
    DRIFTS[field](model)
    assert engine("check", model) == 4
    assert f"anchorhold: profile: {field}: expected " in capsys.readouterr().err


def test_other_weights_miss_a_golden_prompt_with_status_five(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = write_model(tmp_path / "other", seed=b"other")
    shutil.copy(other / "model.safetensors", model / "model.safetensors")
    assert engine("check", model) == 5
    assert "golden" in capsys.readouterr().err


def test_one_bit_of_one_weight_misses_a_golden_prompt(model: Path) -> None:
    raw = bytearray((model / "model.safetensors").read_bytes())
    raw[-2 * 64 * 96] ^= 1  # the least bit of a weight of the last layer
    (model / "model.safetensors").write_bytes(raw)
    assert engine("check", model) == 5


@pytest.mark.parametrize("name", ["tokens", "trace"])
def test_another_digest_of_a_golden_prompt_is_a_miss(model: Path, name: str) -> None:
    edit(model, FILE, lambda profile: profile["golden"][-1].update({name: _other(profile["golden"][-1][name])}))
    assert engine("check", model) == 5


def test_another_profile_than_the_one_that_was_named(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert engine("check", model, "--profile", "00" * 32) == 1
    assert "profile.digest" in capsys.readouterr().err
    assert engine("check", model, "--profile", "00") == 1
    (model / FILE).unlink()
    assert engine("check", model) == 1
    assert "profile.missing" in capsys.readouterr().err


def test_a_sealed_pack_is_proven_with_its_key(model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    seal_pack(model, tmp_path / "x.pack", KEY, threads=1)
    for name, key in (("right.key", KEY), ("wrong.key", OTHER_KEY)):
        (tmp_path / name).write_text(key.reveal().hex() + "\n", encoding="utf-8")
        (tmp_path / name).chmod(0o600)
    assert engine("check", tmp_path / "x.pack", "--key", tmp_path / "right.key") == 0
    assert digest_of((model / FILE).read_bytes()).hex() in capsys.readouterr().out
    assert engine("check", tmp_path / "x.pack", "--key", tmp_path / "wrong.key") == 2
    assert engine("check", tmp_path / "x.pack") == 1
    assert engine("profile", tmp_path / "x.pack", "--key", tmp_path / "right.key") == 1
    out = tmp_path / "new.json"
    assert engine("profile", tmp_path / "x.pack", "--key", tmp_path / "right.key", "--tokens", "8", "--out", out) == 0
    assert out.read_bytes() == (model / FILE).read_bytes()


@pytest.mark.torch
def test_an_engine_whose_bits_hang_on_the_machine_states_it(
    model: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    # profile.md F3
    brought("torch")
    (model / FILE).unlink()
    assert engine("profile", model, "--engine", "torch-1", "--tokens", "4", "--threads", "1") == 0
    stated = json.loads((model / FILE).read_bytes())["settings"]
    assert (stated["engine"], stated["machine"]["threads"]) == ("torch-1", 1)
    assert stated["libraries"]["torch"]
    assert engine("check", model) == 0
    capsys.readouterr()
    monkeypatch.setenv("OMP_SCHEDULE", "static")
    assert engine("check", model, "--threads", "2") == 4
    said = capsys.readouterr().err
    assert 'machine.environment.OMP_SCHEDULE: expected none, got "static"' in said
    assert "machine.threads: expected 1, got 2" in said
