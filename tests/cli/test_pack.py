"""`anchorhold pack`: exit status, what is said, and what lies on disk afterwards (pack.md P14, P16, P17)."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from anchorhold.command import main
from devnet.model import TinyModel
from tests.packs import FILES, KEY, OTHER_KEY, SIGNER_HEX, Forge, write_folder

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def place(tmp_path: Path) -> Path:
    write_folder(tmp_path / "model")
    for name, key in (("pack.key", KEY.reveal()), ("other.key", OTHER_KEY.reveal()), ("sign.key", b"\x11" * 32)):
        (tmp_path / name).write_text(key.hex() + "\n", encoding="utf-8")
        (tmp_path / name).chmod(0o600)
    return tmp_path


@pytest.fixture
def sealed(place: Path, capsys: pytest.CaptureFixture[str]) -> Path:
    assert (
        pack("seal", place / "model", place / "x.pack", "--key", place / "pack.key", "--sign-key", place / "sign.key")
        == 0
    )
    capsys.readouterr()
    return place


def pack(*words: str | Path) -> int:
    return main(["pack", *map(str, words)])


def names(place: Path) -> set[str]:
    return {path.name for path in place.iterdir()}


def test_seal_inspect_verify_open(sealed: Path, capsys: pytest.CaptureFixture[str]):
    assert pack("inspect", sealed / "x.pack", "--json") == 0
    said = json.loads(capsys.readouterr().out)
    assert (said["name"], said["signer"], said["chunks"]) == ("bits", SIGNER_HEX, 1)
    assert [file["name"] for file in said["files"]] == sorted(FILES)
    assert said["pack_bytes"] == (sealed / "x.pack").stat().st_size
    assert pack("inspect", sealed / "x.pack") == 0
    assert "tokenizer.json" in capsys.readouterr().out
    assert pack("verify", sealed / "x.pack", "--signer", SIGNER_HEX, "--threads", "1") == 0
    assert "signer as expected" in capsys.readouterr().out
    assert pack("open", sealed / "x.pack", sealed / "out", "--key", sealed / "pack.key") == 0
    caught = capsys.readouterr()
    assert "for development only" in caught.err
    assert {path.name: path.read_bytes() for path in (sealed / "out").iterdir()} == FILES
    modes = {stat.S_IMODE(path.stat().st_mode) for path in (sealed / "out").iterdir()}
    assert (modes, stat.S_IMODE((sealed / "out").stat().st_mode)) == ({0o600}, 0o700)


def test_without_a_signer_verify_says_that_it_compared_none(sealed: Path, capsys: pytest.CaptureFixture[str]):
    assert pack("verify", sealed / "x.pack") == 0
    assert "not compared" in capsys.readouterr().out


def test_a_pack_sealed_without_a_publisher_is_signed_for_the_pack_key(place: Path):
    assert pack("seal", place / "model", place / "x.pack", "--key", place / "pack.key") == 0
    assert pack("verify", place / "x.pack") == 0
    assert pack("verify", place / "x.pack", "--signer", SIGNER_HEX) == 2


def test_status_2_signature_or_key(sealed: Path, capsys: pytest.CaptureFixture[str]):
    assert pack("verify", sealed / "x.pack", "--signer", "00" * 32) == 2
    assert "pack.signer" in capsys.readouterr().err
    assert pack("open", sealed / "x.pack", sealed / "out", "--key", sealed / "other.key") == 2
    assert "key.wrong" in capsys.readouterr().err
    (sealed / "pack.key").chmod(0o644)
    assert pack("open", sealed / "x.pack", sealed / "out", "--key", sealed / "pack.key") == 2
    said = capsys.readouterr().err
    assert "key.permissions" in said
    assert KEY.reveal().hex() not in said
    assert "out" not in names(sealed)
    (sealed / "x.pack").write_bytes((sealed / "x.pack").read_bytes().replace(b"Apache-2.0", b"Apache-3.0"))
    assert pack("inspect", sealed / "x.pack") == 2


def test_status_5_content(sealed: Path, capsys: pytest.CaptureFixture[str]):
    content = (sealed / "x.pack").read_bytes()
    for name, changed in (
        ("chunk 0", content[:-1] + bytes([content[-1] ^ 1])),
        ("more bytes", content + b"x"),
        ("chunk 0", content[:-9]),
    ):
        (sealed / "x.pack").write_bytes(changed)
        assert pack("verify", sealed / "x.pack") == 5
        assert name in capsys.readouterr().err
        assert pack("open", sealed / "x.pack", sealed / "out", "--key", sealed / "pack.key") == 5
        assert name in capsys.readouterr().err
    assert names(sealed) == {"model", "pack.key", "other.key", "sign.key", "x.pack"}


def test_status_1_usage_and_malformed_input(place: Path, capsys: pytest.CaptureFixture[str]):
    (place / "model" / "pytorch_model.bin").write_bytes(b"PK\x03\x04")
    seal = ("seal", place / "model", place / "x.pack", "--key", place / "pack.key")
    assert pack(*seal) == 1
    assert "pytorch_model.bin" in capsys.readouterr().err
    assert "x.pack" not in names(place)
    (place / "model" / "pytorch_model.bin").unlink()
    (place / "x.pack").write_bytes(b"mine")
    for words in (
        seal,
        ("verify", place / "x.pack"),
        ("verify", place / "none.pack"),
        ("inspect", place / "pack.key"),
        ("verify", place / "x.pack", "--signer", "abc"),
        ("verify", place / "x.pack", "--threads", "0"),
        ("seal",),
        (),
        ("seal", place / "none", place / "y.pack", "--key", place / "pack.key"),
    ):
        assert pack(*words) == 1, words
    assert (place / "x.pack").read_bytes() == b"mine"
    assert names(place) == {"model", "pack.key", "other.key", "sign.key", "x.pack"}


def test_a_pack_that_says_it_is_what_it_is_not_opens_to_nothing(place: Path):
    (place / "x.pack").write_bytes(Forge(measured={"parameters": 405}).build())
    assert pack("verify", place / "x.pack") == 0
    assert pack("open", place / "x.pack", place / "out", "--key", place / "pack.key") == 5
    assert "out" not in names(place)


def test_progress_is_shown_to_a_terminal_and_to_nobody_else(place: Path):
    TinyModel().write(place / "tiny")
    command = [
        sys.executable,
        "-m",
        "anchorhold.command",
        "pack",
        "seal",
        str(place / "tiny"),
        "",
        "--key",
        str(place / "pack.key"),
    ]
    command[6] = str(place / "quiet.pack")
    quiet = subprocess.run(command, cwd=ROOT, capture_output=True, check=True)
    assert quiet.stderr == b""
    command[6] = str(place / "shown.pack")
    ours, theirs = os.openpty()
    try:
        subprocess.run(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=theirs, check=True)
        shown = os.read(ours, 4096)
    finally:
        os.close(ours)
        os.close(theirs)
    assert b"sealing [##############################] 100%" in shown
    assert shown.endswith(b"\n")
