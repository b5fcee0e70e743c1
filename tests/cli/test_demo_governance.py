"""`make demo-governance`: from a proposal to a key and a receipt, and back. governance.md V13, V14, V16, V19, V22."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from anchorhold.command import main
from measurements.governance.authority import authority_digest, parse_authority
from measurements.release.manifest import Manifest

ROOT = Path(__file__).resolve().parents[2]


def test_it_holds_and_says_so_last(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ended = subprocess.run(
        [sys.executable, "-m", "devnet.demo.governance"],
        cwd=tmp_path,
        capture_output=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    lines = ended.stdout.decode().splitlines()
    assert lines[-1].startswith("demo-governance: ok")
    said = "\n".join(lines)
    assert said.count("authority.status") == 2  # one vote was no decision, twice
    assert "6 receipts cite " in said
    assert "decision 1 of 1, by proposal 1; in force" in said
    assert " checks, 0 failed" in said
    assert "denied, release.withdrawn" in said
    folder = tmp_path / "build" / "demo-governance"
    assert Manifest.parse((folder / "1-adopt" / "manifest.json").read_bytes()).version == "0.1.0"
    assert authority_digest(parse_authority((folder / "authority.json").read_bytes()))
    assert not (folder / "1-adopt" / "history.cbor").exists()
    second = folder / "2-withdraw"
    given = ["--authority", str(folder / "authority.json"), "--history", str(second / "history.cbor")]
    capsys.readouterr()
    assert main(["release", "proposal", str(second / "payload.bin"), *given]) == 0
    assert capsys.readouterr().out == (second / "summary.md").read_text(encoding="utf-8")
