"""`anchorhold broker` as an operator types it: what it prints, how it ends, and what it leaves behind."""

from __future__ import annotations

import io
import json
import os
from pathlib import Path

import pytest

from anchorhold.command import main

MEASUREMENT, ROOT, CONFIG = "4d" * 48, "30" * 32, "c0" * 32


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Path:
    assert main(["broker", "init", str(tmp_path / "b")]) == 0
    assert len(bytes.fromhex(capsys.readouterr().out)) == 32
    monkeypatch.chdir(tmp_path / "b")
    return tmp_path / "b"


def broker(*arguments: str) -> int:
    return main(["broker", *arguments])


def test_a_day_of_an_operator(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b"the key itself")))
    assert broker("secret", "add", "default/model-key/m", "--from", "-", "--model-root", ROOT) == 0
    assert (
        broker(
            "release",
            "add",
            "1.0",
            "--measurement",
            MEASUREMENT,
            "--model-root",
            ROOT,
            "--measured-config",
            CONFIG,
            "--proposed",
        )
        == 0
    )
    assert broker("release", "approve", "1.0") == 1  # governance.md V17: a word must be given as one
    assert broker("release", "approve", "1.0", "--on-my-word") == 0
    (folder / "new").write_bytes(b"another key")
    assert broker("secret", "rotate", "default/model-key/m", "--from", "new", "--model-root", ROOT) == 0
    assert broker("revoke", "chip", "01" * 64) == 0
    assert broker("secret", "revoke", "default/model-key/m") == 0
    capsys.readouterr()
    assert broker("log", "show") == 0
    shown = capsys.readouterr().out
    assert [json.loads(line)["kind"] for line in shown.splitlines()] == [
        "began",
        "secret-added",
        "release-added",
        "release-changed",
        "secret-rotated",
        "revoked",
        "secret-revoked",
    ]
    assert "the key itself" not in shown
    assert b"the key itself".hex() not in shown
    assert broker("log", "verify") == 0
    head = capsys.readouterr().out.strip()
    assert head.startswith("7:")
    assert broker("log", "verify", "--seen", head) == 0
    assert broker("log", "verify", "--seen", f"8:{'00' * 32}") == 5


def test_private_files_are_private(folder: Path) -> None:
    assert folder.stat().st_mode & 0o077 == 0
    assert {name: (folder / name).stat().st_mode & 0o777 for name in ("kek", "tls.key")} == {
        "kek": 0o600,
        "tls.key": 0o600,
    }


def test_init_never_goes_over_a_broker(folder: Path) -> None:
    before = (folder / "broker.db").read_bytes()
    assert broker("init", str(folder)) == 1
    assert (folder / "broker.db").read_bytes() == before


def test_serve_refuses_what_would_release_blindly(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """key-release.md R18."""
    config = folder / "broker.toml"
    config.write_text(config.read_text().replace('"strict"', '"platform"'))
    assert broker("serve") == 1
    assert "policy.snp.measurement" in capsys.readouterr().err


def test_serve_refuses_a_store_that_disagrees_with_its_log(folder: Path) -> None:
    """key-release.md R23."""
    from attestation.broker.config import Config
    from attestation.broker.store import Store
    from attestation.decision_log.words import RevocationKind

    store = Store.open(Config.read(folder / "broker.toml").store)
    with store.change() as change:
        change.revoke(RevocationKind.CHIP, b"x" * 64)
    store.close()
    assert broker("serve") == 5


@pytest.mark.parametrize(
    "arguments",
    [
        ["serve", "--config", "none.toml"],
        ["release", "approve", "none", "--on-my-word"],
        ["revoke", "chip", "zz"],
        ["secret", "add", "a/b", "--from", "kek"],
        ["secret", "add", "a/b/c", "--from", "none"],
        ["log", "verify", "--seen", "x"],
        ["secret"],
        [],
    ],
)
def test_what_is_wrong_ends_with_1_and_changes_nothing(folder: Path, arguments: list[str]) -> None:
    before = (folder / "broker.db").read_bytes()
    assert broker(*arguments) == 1
    assert (folder / "broker.db").read_bytes() == before


def test_another_key_encryption_key_does_not_open_it(folder: Path) -> None:
    (folder / "kek").write_bytes(os.urandom(32))
    assert broker("key") == 1
