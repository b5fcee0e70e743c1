"""`anchorhold demo`: the whole path in one command, on a folder of its own."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from anchorhold.command import main
from devnet.demo.engines import Choice
from devnet.verbs.demo import ENGINES
from tests.elsewhere import brought

ROOT = Path(__file__).resolve().parents[2]


def demo(folder: Path, *arguments: str, stdin: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        [sys.executable, "-m", "anchorhold.command", "demo", *arguments],
        cwd=folder,
        input=stdin,
        capture_output=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        check=False,
    )


def test_it_holds_and_says_so_last(tmp_path: Path) -> None:
    ended = demo(tmp_path)
    assert ended.returncode == 0, ended.stderr
    assert ended.stderr == b""
    lines = ended.stdout.decode().splitlines()
    assert lines[-1] == "audit: ok"
    assert lines[-2].startswith("demo: ok (7 prompts")
    assert any("one bit of a receipt turned: refused, receipts.signed" in line for line in lines)
    assert any("(the line is cut here" in line for line in lines)
    assert sum(": declined, " in line for line in lines) == 4
    assert any(": denied, tdx.mr-td" in line for line in lines)
    folder = tmp_path / "build" / "demo"
    left = [
        "audit.html",
        "broker",
        "bundle.anchorhold",
        "cell.log",
        "cell.toml",
        "devnet-roots.toml",
        "head.cert",
        "identity.evidence",
        "model",
        "model.pack",
        "receipts.log",
        "tampered.anchorhold",
        "tampered.html",
    ]
    assert sum(" sealed frames of " in line for line in lines) == 2
    assert any("every receipt holds" in line for line in lines)
    assert sorted(path.name for path in folder.iterdir()) == left
    events = [json.loads(line)["event"] for line in (folder / "cell.log").read_text().splitlines()]
    assert (events[0], events[-1]) == ("serving", "stopped")
    assert events.count("refused") == 4
    assert events.count("model open") == 1
    assert events.count("released") == 3


def test_the_command_it_prints_at_its_end_works(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The certificate it leaves is one that `verify certificate` accepts under the devnet's root and no other."""
    ended = demo(tmp_path, "--folder", str(tmp_path / "out"))
    by_hand = re.search(r"anchorhold (verify certificate .*)", ended.stdout.decode())
    assert by_hand is not None
    arguments = by_hand[1].split()
    assert main(arguments) == 0
    shown = capsys.readouterr().out
    head = re.search(r"certified_data ([0-9a-f]{32})", ended.stdout.decode())
    assert head is not None
    assert head[1] in shown
    assert main(arguments[: arguments.index("--root-key")]) == 2


def test_the_bundle_it_leaves_is_audited_again_by_hand(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """audit.md U6, U14, U39: it holds under the devnet's roots alone, its tampered copy under none."""
    ended = demo(tmp_path, "--folder", str(tmp_path / "out"))
    by_hand = re.search(r"again by hand: anchorhold (audit .*)", ended.stdout.decode())
    assert by_hand is not None
    arguments = by_hand[1].split()
    assert main(arguments) == 0
    assert capsys.readouterr().out.splitlines()[-1] == "audit: ok"
    assert main(arguments[:2]) == 2
    tampered = [word.replace("bundle.anchorhold", "tampered.anchorhold") for word in arguments]
    assert main(tampered) == 5
    capsys.readouterr()
    assert main(["compare", arguments[1], arguments[1], "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["compared"] == 7


def test_the_engines_it_offers_are_those_there_are() -> None:
    assert [choice.value for choice in Choice] == list(ENGINES)


@pytest.mark.parametrize(
    ("engine", "line", "said"),
    [
        ("scripted", 'engine = "scripted-1"', "words that no model weighed"),
        pytest.param(
            "torch", 'engine = "torch-1"', "on the same machine: no more is promised", marks=pytest.mark.torch
        ),
    ],
)
def test_another_engine_answers(tmp_path: Path, engine: str, line: str, said: str) -> None:
    if engine == "torch":
        brought("torch")
    ended = demo(tmp_path, "--engine", engine)
    assert ended.returncode == 0, ended.stderr
    lines = ended.stdout.decode().splitlines()
    assert lines[-1] == "audit: ok"
    assert any(
        "7 answers computed again by the owner of the keys: the same, to the bit" in each and said in each
        for each in lines
    )
    assert line in (tmp_path / "build/demo/cell.toml").read_text().splitlines()


def test_an_engine_that_is_none_is_told_which_there_are(tmp_path: Path) -> None:
    ended = demo(tmp_path, "--engine", "llama")
    assert ended.returncode == 1
    last = ended.stderr.decode().splitlines()[-1]
    assert all(engine in last for engine in ENGINES)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("engine", ["torch", "vllm"])
def test_an_engine_that_is_not_installed_is_told_how_it_comes(tmp_path: Path, engine: str) -> None:
    code = (
        f"import sys; sys.modules[{engine!r}] = None; from anchorhold.command import main; "
        f"raise SystemExit(main(['demo', '--engine', {engine!r}]))"
    )
    ended = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        check=False,
    )
    assert ended.returncode == 2
    assert ended.stderr.decode() == (
        f"demo: failed: the engine {engine} needs {engine}, which this environment is without; `make vllm` makes the "
        f"one that has it, and `make demo ENGINE={engine}` runs there\n"
    )
    assert list(tmp_path.iterdir()) == []


def test_prompts_of_ones_own(tmp_path: Path) -> None:
    ended = demo(tmp_path, "--prompts", "-", "--show", stdin="Where?\n\nWohin? Żółw\n".encode())
    assert ended.returncode == 0, ended.stderr
    out = ended.stdout.decode()
    assert "Wohin? Żółw" in out
    assert out.splitlines()[-2].startswith("demo: ok (3 prompts")


@pytest.mark.parametrize("prompts", [b"", b"only one\n", b"\xff\xfe\nno text\n"])
def test_prompts_that_make_no_demo(tmp_path: Path, prompts: bytes) -> None:
    ended = demo(tmp_path, "--prompts", "-", stdin=prompts)
    assert ended.returncode == 1
    assert ended.stderr.startswith(b"anchorhold: usage: usage.prompts: expected ")
    assert len(ended.stderr.splitlines()) == 1
    assert list(tmp_path.iterdir()) == []


def test_a_prompt_the_gateway_refuses(tmp_path: Path) -> None:
    """131,072 bytes of payload is the gateway's bound: refused there, told in one line, the cell stopped."""
    ended = demo(tmp_path, "--prompts", "-", stdin=b"x" * 140_000 + b"\nanother\n")
    assert ended.returncode == 1
    assert len(ended.stderr.splitlines()) == 1
    assert ended.stderr.startswith(b"anchorhold: gateway: request.payload_bytes: ")
    assert b"xxx" not in ended.stdout + ended.stderr
    events = [json.loads(line)["event"] for line in (tmp_path / "build/demo/cell.log").read_text().splitlines()]
    assert events[-1] == "stopped"


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    ended = demo(tmp_path, "--folder", "file/below")
    assert ended.returncode == 1
    assert len(ended.stderr.splitlines()) == 1
    assert ended.stderr.startswith(b"anchorhold: ")


def test_a_cell_that_does_not_start_is_told(tmp_path: Path) -> None:
    """A socket path longer than the system takes: the cell refuses, and the demo says where its log is."""
    folder = tmp_path / ("x" * 120)
    ended = demo(tmp_path, "--folder", str(folder))
    assert ended.returncode == 2
    assert ended.stderr.startswith(b"demo: failed: the cell did not start; see ")
    assert json.loads((folder / "cell.log").read_text())["event"] == "refused to start"
