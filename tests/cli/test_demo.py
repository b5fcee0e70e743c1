"""`anchorhold demo`: the whole path in one command, on a folder of its own."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from anchorhold.command import main
from attestation.auditor.devnet_roots import DevnetRoots
from attestation.consensus.certificate import parse_certificate, verify_certificate
from attestation.consensus.principal import to_text
from attestation.sealed.frames import FRAME_BYTES
from devnet.demo.engines import Choice
from devnet.subnet import GATEWAY
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


@dataclass(frozen=True)
class Shown:
    """What a run printed, and the folder that it was started in."""

    folder: Path
    said: str


@pytest.fixture(scope="module")
def shown(tmp_path_factory: pytest.TempPathFactory) -> Shown:
    folder = tmp_path_factory.mktemp("demo")
    ended = demo(folder)
    assert ended.returncode == 0, ended.stderr
    assert ended.stderr == b""
    return Shown(folder, ended.stdout.decode())


def test_it_holds_and_says_so_last(shown: Shown) -> None:
    lines = shown.said.splitlines()
    assert lines[-1] == "audit: ok"
    assert lines[-2].startswith("demo: ok (7 prompts")
    assert any("one bit of a receipt turned: refused, receipts.signed" in line for line in lines)
    assert any("the line was cut in the middle of an answer" in line for line in lines)
    assert sum(": declined, " in line for line in lines) == 4
    assert sum("HELLO" in line for line in lines) == 0
    assert any(": denied, tdx.mr-td" in line for line in lines)
    folder = shown.folder / "build" / "demo"
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
    assert any(f" sealed frames of {FRAME_BYTES} B" in line for line in lines)
    assert any("2 could be opened by nobody else" in line for line in lines)
    assert any("every receipt holds" in line for line in lines)
    assert sorted(path.name for path in folder.iterdir()) == left
    events = [json.loads(line)["event"] for line in (folder / "cell.log").read_text().splitlines()]
    assert (events[0], events[-1]) == ("serving", "stopped")
    assert events.count("refused") == 4
    assert events.count("model open") == 1
    assert events.count("released") == 3


def test_the_readme_shows_what_it_prints(shown: Shown) -> None:
    """All of it, which is short; numbers may differ."""
    readme = (ROOT / "README.md").read_text("utf-8")
    printed = re.search(r"^\$ make demo\n(.*?)^```$", readme, re.DOTALL | re.MULTILINE)
    assert printed is not None
    assert without_numbers(printed[1]) == without_numbers(shown.said)
    lines = shown.said.splitlines()
    assert (len(lines) <= 24, max(map(len, lines)) <= 120) == (True, True)


def without_numbers(text: str) -> str:
    return re.sub(r"\d+", "0", text)


def test_the_certificate_it_leaves_is_checked_by_hand(shown: Shown, capsys: pytest.CaptureFixture[str]) -> None:
    """`verify certificate` accepts it under the devnet's root and no other."""
    assert "certified build/demo/head.cert holds under the devnet's root" in shown.said
    folder = shown.folder / "build" / "demo"
    roots = DevnetRoots.parse((folder / "devnet-roots.toml").read_bytes())
    arguments = ["verify", "certificate", str(folder / "head.cert"), "--canister", to_text(GATEWAY)]
    arguments += ["--path", "certified_data"]
    assert main([*arguments, "--root-key", roots.subnet.hex()]) == 0
    certificate = parse_certificate((folder / "head.cert").read_bytes())
    verified = verify_certificate(certificate, root_key=roots.subnet, canister=GATEWAY)
    assert verified.certified_data().hex() in capsys.readouterr().out
    assert main(arguments) == 2


def test_the_bundle_it_leaves_is_audited_again_by_hand(
    shown: Shown, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """audit.md U6, U14, U39: it holds under the devnet's roots alone, its tampered copy under none."""
    monkeypatch.chdir(shown.folder)
    by_hand = re.search(r"again by hand: anchorhold (audit .*)", shown.said)
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
    assert "'Where?'" in out
    assert "'Wohin? Żółw'" in out
    assert out.splitlines()[-2].startswith("demo: ok (3 prompts")


def test_prompts_of_ones_own_are_not_shown_unasked(tmp_path: Path) -> None:
    """Frames that carry them neither (secrecy.md S11)."""
    ended = demo(tmp_path, "--prompts", "-", "--engine", "scripted", "--wire", stdin="Where?\nWohin? Żółw\n".encode())
    assert ended.returncode == 0, ended.stderr
    assert not any(word in ended.stdout.decode() for word in ("Where", "Wohin", "Żółw"))


def test_frames_are_shown_on_request(tmp_path: Path) -> None:
    """Two greetings of either side, since the line is cut once."""
    lines = demo(tmp_path, "--wire", "--engine", "scripted").stdout.decode().splitlines()
    assert lines[-1] == "audit: ok"
    for way in ("host -> cell", "cell -> host"):
        assert sum(line.startswith(f"     {way}  HELLO ") for line in lines) == 2
    assert sum(line.startswith("     cell -> host  DATA ") for line in lines) > 20
    assert sum(line.startswith("     host -> cell  DATA ") for line in lines) > 10


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
