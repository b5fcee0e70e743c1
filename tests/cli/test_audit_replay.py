"""`anchorhold audit --replay`. audit.md U50 to U55."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from anchorhold.command import main
from anchorhold.replay.runs import Source, choose, run, run_on_ray
from attestation.auditor.audit_bundle import AnswersPart, AskedPart
from devnet.demo import run as demo
from devnet.demo.key_owner import KeyOwner, key_owner
from devnet.demo.screen import Screen
from foundation import private_files
from foundation.secrecy import Prompt
from tests.cli.test_audit import ROOTS
from tests.little_engine import needs_kernels
from tests.little_replay import BLOCK, bundle, ring


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "bundle").write_bytes(bundle().encode())
    (tmp_path / "roots").write_bytes(ROOTS.encode())
    (tmp_path / "ring").write_bytes(ring().encode().reveal())
    return tmp_path


def replay(folder: Path, *more: str) -> int:
    return main(["audit", str(folder / "bundle"), "--devnet", str(folder / "roots"), "--replay", *more])


def test_all_of_it_again(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:  # audit.md U50
    page = folder / "page.html"
    assert replay(folder, "--service-keys", str(folder / "ring"), "--json", "--page", str(page)) == 0
    found = [each for each in json.loads(capsys.readouterr().out)["findings"] if each["stage"] == "replay"]
    there = 3 * BLOCK
    assert [(each["standing"], each["got"]) for each in found] == [("holds", f"{there} of {there}, {there} chosen")]
    assert 'data-link="The computation, done again" data-state="holds"' in page.read_text(encoding="utf-8")


def test_without_service_keys_the_sealed_ones_are_left(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    # audit.md U52
    assert replay(folder) == 0
    assert capsys.readouterr().out.splitlines()[-1] == "audit: ok"


def test_some_of_it(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:  # audit.md U55
    assert replay(folder, "--only", "3/4", "--only", "1/1", "--json") == 0
    assert "2 chosen" in capsys.readouterr().out
    assert replay(folder, "--sample", "5", "--service-keys", str(folder / "ring"), "--json") == 0
    assert "5 chosen" in capsys.readouterr().out


def test_samples_are_drawn_from_all_and_each_once(folder: Path) -> None:  # audit.md U55
    source = Source(str(folder / "bundle"))
    assert choose(source, sample=4, only=(), draw=lambda below: below - 1) == [0, 1, 2, 3 * BLOCK - 1]
    for at in (0, 50, 3 * BLOCK - 1):
        drawn = choose(source, sample=7, only=(), draw=lambda below, at=at: at % below)  # type: ignore[misc]
        assert len(set(drawn)) == 7
        assert at in drawn


def test_a_bundle_that_fails_is_not_worth_computing(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    # audit.md U50
    bent = replace(bundle(), answers=AnswersPart(()).encode())
    (folder / "bundle").write_bytes(bent.encode())
    assert replay(folder, "--json") == 5
    found = json.loads(capsys.readouterr().out)["findings"][-1]
    assert (found["stage"], found["standing"]) == ("replay", "not reached")


def test_a_request_that_is_withheld_cannot_be_computed(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    # audit.md U52
    asked = AskedPart.parse(bundle().asked)
    digests = tuple(
        tuple(each if isinstance(each, bytes) else each.digest() for each in block) for block in asked.blocks
    )
    (folder / "bundle").write_bytes(replace(bundle(), asked=AskedPart(digests).encode()).encode())
    assert replay(folder, "--json") == 0
    assert "digest alone" in capsys.readouterr().out
    assert replay(folder, "--only", "1/1") == 1


def test_usage(folder: Path) -> None:  # audit.md U55
    (folder / "key").write_bytes(b"not hex")
    (folder / "bent").write_bytes(b"no ring")
    for wrong in (
        ["--only", "nowhere"],
        ["--only", "9/9"],
        ["--model", str(folder / "bundle")],
        ["--model", str(folder / "bundle"), "--model-key", str(folder / "key")],
    ):
        assert replay(folder, *wrong) == 1
    private_files.replace(folder / "key", b"00" * 32)
    assert replay(folder, "--model", str(folder / "bundle"), "--model-key", str(folder / "key")) == 5
    assert replay(folder, "--service-keys", str(folder / "bent")) == 5


@contextmanager
def whose_keys_are_kept(folder: Path, write_model: Callable[[Path], object]) -> Iterator[KeyOwner]:
    """The demo's owner, whose keys an auditor is handed."""
    with key_owner(folder, write_model) as owner:
        private_files.replace(folder / "key", owner.key.reveal().hex().encode())
        private_files.replace(folder / "ring", owner.ring.encode().reveal())
        yield owner


@needs_kernels
def test_the_model_answers_again_and_nothing_but_json_is_printed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """audit.md U39, U50: what the demo's cell answered, by its pack and its keys, in a process of its own."""
    monkeypatch.setattr(demo, "key_owner", whose_keys_are_kept)
    assert demo.run(tmp_path, [Prompt(b"Where?")] * 4, Screen(io.StringIO(), words=False)) == 0
    bundle, roots, pack, key, ring = (
        str(tmp_path / name) for name in ("bundle.anchorhold", "devnet-roots.toml", "model.pack", "key", "ring")
    )
    replayed = ["--replay", "--model", pack, "--model-key", key, "--service-keys", ring]
    ended = subprocess.run(
        [sys.executable, "-m", "anchorhold.command", "audit", bundle, "--devnet", roots, *replayed, "--json"],
        capture_output=True,
        check=False,
    )
    assert (ended.returncode, ended.stderr) == (0, b"")
    found = [each for each in json.loads(ended.stdout)["findings"] if each["stage"] == "replay"]
    assert [each["standing"] for each in found] == ["holds"]
    assert found[0]["got"] == "2 of 5, 5 chosen; 3 could not be read"  # the sealed ones; of the others it has digests


@pytest.mark.slow
def test_many_at_once(folder: Path) -> None:  # audit.md U55
    pytest.importorskip("ray", reason="ray (the bulk extra) is not installed: bulk replay was not tried")
    source = Source(str(folder / "bundle"), service_keys=str(folder / "ring"))
    chosen = list(range(0, 3 * BLOCK, 3))
    assert run_on_ray(source, chosen, 2) == run(source, chosen)
