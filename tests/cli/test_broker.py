"""`anchorhold broker` as an operator types it: what it prints, how it ends, and what it leaves behind."""

from __future__ import annotations

import io
import json
import os
import socket
from pathlib import Path

import pytest

from anchorhold.command import main
from devnet.model import TinyModel
from foundation.private_files import write_new

KEY = b"the key itself, all 32 bytes of it"[:32]
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
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(KEY.hex().encode())))
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
    write_new(folder / "new", bytes(32).hex().encode())
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
    assert KEY.hex() not in shown
    assert KEY.hex().encode().hex() not in shown
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


def test_serve_names_the_address_that_is_taken(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        config = folder / "broker.toml"
        config.write_text(config.read_text().replace("127.0.0.1:8443", address))
        (folder / "references.toml").write_text(f'[snp]\nchip_id = ["{"01" * 64}"]\n')
        assert broker("serve") == 1
    line = capsys.readouterr().err.splitlines()[-1]
    assert line == (
        f"anchorhold: usage: usage.listen: expected to listen at {address}, as the configuration says, got address "
        "already in use"
    )


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


@pytest.fixture
def pack(folder: Path, capsys: pytest.CaptureFixture[str]) -> Path:
    """A little model's pack beside the broker, with its key file."""
    TinyModel().write(folder / "model")
    write_new(folder / "pack.key", KEY.hex().encode())
    assert main(["pack", "seal", "model", "m.pack", "--key", "pack.key"]) == 0
    capsys.readouterr()
    return folder / "m.pack"


def test_the_key_file_of_a_pack_is_what_a_broker_takes(
    folder: Path, pack: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """key-release.md R12, pack.md P17: one form of key files, and the model's root comes from the pack."""
    from anchorhold.owner.broker_process import open_broker
    from measurements.pack.pack_check import inspect_pack

    assert broker("secret", "add", "default/model-key/m", "--from", "pack.key", "--pack", "m.pack") == 0
    assert capsys.readouterr().out == "default/model-key/m version 1, opens m.pack\n"
    opened = open_broker(folder / "broker.toml")
    try:
        with opened.store.change() as change:
            row = change.secret("default/model-key/m")
        assert row is not None
        assert row.wrapped is not None
        assert row.model_root == inspect_pack(pack).header.model_root
        assert opened.wrapping.unwrap(row.wrapped, row.name).reveal() == KEY
    finally:
        opened.store.close()


@pytest.mark.parametrize(
    ("name", "content", "more", "said"),
    [
        ("other.key", bytes(32).hex().encode(), ["--pack", "m.pack"], "the key in other.key does not open m.pack"),
        ("raw.key", KEY, ["--pack", "m.pack"], "xxd -p -c 64 raw.key"),
        ("raw.key", KEY, ["--model-root", ROOT], "key.form: expected 64 lower-case hexadecimal digits in raw.key"),
        ("pack.key", None, ["--pack", "pack.key"], "pack.key has to be a model pack"),
        ("pack.key", None, ["--pack", "m.pack", "--model-root", ROOT], "usage.model-root: expected "),
        ("pack.key", None, [], "usage.model-root: expected --pack with the pack, or --model-root"),
    ],
)
def test_a_key_that_would_not_open_the_model_is_not_added(
    folder: Path,
    pack: Path,
    capsys: pytest.CaptureFixture[str],
    name: str,
    content: bytes | None,
    more: list[str],
    said: str,
) -> None:
    if content is not None:
        write_new(folder / name, content)
    before = (folder / "broker.db").read_bytes()
    assert broker("secret", "add", "default/model-key/m", "--from", name, *more) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert said in line
    assert KEY.hex() not in line
    assert (folder / "broker.db").read_bytes() == before


def test_another_key_encryption_key_does_not_open_it(folder: Path) -> None:
    (folder / "kek").write_bytes(os.urandom(32))
    assert broker("key") == 1
