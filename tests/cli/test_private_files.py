"""Whatever holds secrets is its owner's alone: under umask 0, in a folder that everybody may enter (secrecy.md S14)."""

from __future__ import annotations

import ast
import io
import json
import os
import stat
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from anchorhold.command import main
from anchorhold.host.receipt_log import ReceiptLog
from anchorhold.owner.broker_process import open_broker
from anchorhold.verbs.image_boot import _chip
from attestation.broker import service
from attestation.broker.store import Store
from attestation.consensus.principal import to_text
from attestation.sealed.ring import Ring
from attestation.sealed.suites import SuiteId
from devnet.pki import Validity
from devnet.sim_snp import SimulatedSnp
from devnet.store import save
from devnet.subnet import GATEWAY
from foundation import private_files
from foundation.secrecy import Secret
from measurements.pack.disk import whole_folder
from measurements.pack.pack_writer import seal_pack
from tests.packs import KEY

ROOT = Path(__file__).resolve().parents[2]
ROOMS = ("foundation", "vsock_bridge", "measurements", "attestation", "appliance", "devnet", "anchorhold")
PUBLIC = {  # of what the verbs below write: what anyone may read
    "tls.pem",
    "references.toml",
    "root.der",
    "policy.toml",
    "model.pack",
    "roots.toml",
}


@pytest.fixture(params=[0o000, 0o777], ids=["umask-0", "umask-777"])
def open_place(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The working folder: open to all. A umask of 777 takes the owner's own rights too."""
    place = tmp_path / "open"
    place.mkdir()
    place.chmod(0o777)
    monkeypatch.chdir(place)
    before = os.umask(request.param)
    try:
        yield place
    finally:
        os.umask(before)


def open_to_others(place: Path) -> dict[str, str]:
    """Every file and folder below that somebody else may look at, but those that are public."""
    return {
        str(path.relative_to(place)): oct(stat.S_IMODE(path.lstat().st_mode))
        for path in place.rglob("*")
        if path.name not in PUBLIC
        and not path.is_socket()
        and stat.S_IMODE(path.lstat().st_mode) != (0o700 if path.is_dir() else 0o600)
    }


def modes(place: Path) -> dict[str, int]:
    return {path.name: stat.S_IMODE(path.stat().st_mode) for path in place.iterdir()}


# ---- the broker


def test_a_broker_in_a_folder_that_was_there(open_place: Path) -> None:
    (open_place / "b").mkdir()
    (open_place / "b").chmod(0o755)
    assert main(["broker", "init", "b"]) == 0
    assert {name: mode for name, mode in modes(open_place / "b").items() if name not in PUBLIC} == {
        "broker.toml": 0o600,
        "kek": 0o600,
        "tls.key": 0o600,
        "broker.db": 0o600,
    }
    assert modes(open_place)["b"] == 0o755


def test_a_broker_in_a_folder_of_its_own(open_place: Path) -> None:
    assert main(["broker", "init", "b"]) == 0
    assert open_to_others(open_place) == {}


def test_what_sqlite_lays_beside_a_database_in_use(open_place: Path) -> None:
    assert main(["broker", "init", "b"]) == 0
    opened = open_broker(Path("b/broker.toml"))
    try:
        ring = Ring.make(SuiteId.X25519, 1, 10, 2, randomness=os.urandom)
        service.make(opened.store, opened.wrapping, "a/service-key/b", ring, model_root=b"", now_ns=1)
        found = modes(open_place / "b")
        assert {name: found[name] for name in ("broker.db", "broker.db-wal", "broker.db-shm")} == dict.fromkeys(
            ("broker.db", "broker.db-wal", "broker.db-shm"), 0o600
        )
    finally:
        opened.store.close()


def test_a_database_that_was_open_to_others_is_so_no_longer(open_place: Path) -> None:
    url = f"sqlite:///{open_place}/broker.db"
    Store.open(url, create=True).close()
    for name in ("broker.db", "broker.db-wal", "broker.db-shm"):
        path = open_place / name
        path.touch()
        path.chmod(0o644)
    store = Store.open(url)
    try:
        with store.change() as change:
            assert change.keys() == {}
        assert set(modes(open_place).values()) == {0o600}
    finally:
        store.close()


# ---- the others


def test_what_a_client_keeps_and_hands_over(
    open_place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["broker", "init", "b"]) == 0
    broker = capsys.readouterr().out.strip()
    config = ["--config", "b/broker.toml"]
    assert main(["broker", "service", "make", "a/service-key/b", "--blocks", "100", "--overlap", "10", *config]) == 0
    capsys.readouterr()
    assert main(["broker", "service", "offers", "a/service-key/b", *config]) == 0
    private_files.write_new(Path("offer"), json.loads(capsys.readouterr().out.splitlines()[0])["offer"].encode())
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b"Who?")))
    assert (
        main(
            [
                "ask",
                "--offer",
                "offer",
                "--broker",
                broker,
                "--gateway",
                to_text(GATEWAY),
                "--model-root",
                bytes(32).hex(),
                "--model",
                "little",
                "--expiry",
                "50",
                "--keep",
                "kept",
                "--hand-over",
                "given",
                "--out",
                "payload",
            ]
        )
        == 0
    )
    assert open_to_others(open_place) == {}
    assert {"kept", "given", "payload"} <= modes(open_place).keys()


def test_a_model_that_is_opened_in_the_clear(open_place: Path) -> None:
    model = open_place / "model"
    private_files.folder(model)
    for name, raw in {"config.json": b"{}", "README.md": b"#"}.items():
        private_files.write_new(model / name, raw)
    with whole_folder(open_place / "clear") as folder:
        private_files.write_new(folder / "weights", b"w")
    assert open_to_others(open_place) == {}


def test_a_pack_opened_by_the_verb(open_place: Path, tmp_path: Path) -> None:
    from tests.little_engine import write_model

    before = os.umask(0o022)
    try:
        seal_pack(write_model(tmp_path / "model"), open_place / "model.pack", KEY, threads=1)
        key = tmp_path / "key"
        private_files.write_new(key, KEY.reveal().hex().encode())
    finally:
        os.umask(before)
    assert main(["pack", "open", "model.pack", "clear", "--key", str(key)]) == 0
    assert open_to_others(open_place) == {}
    assert (open_place / "clear" / "model.safetensors").is_file()


def test_the_keys_of_a_simulated_platform(open_place: Path) -> None:
    now = datetime.now(UTC).replace(microsecond=0)
    save(SimulatedSnp.create(bytes(32), Validity(now, now + timedelta(days=1))), open_place / "platform")
    run = open_place / "run"
    private_files.folder(run)
    _chip(open_place / "devnet", run, bytes(48))
    assert open_to_others(open_place) == {}
    assert modes(run) == {"machine": 0o600}
    assert modes(open_place / "devnet")["chip.json"] == 0o600


def test_the_log_of_receipts(open_place: Path) -> None:
    ReceiptLog.open(open_place / "receipts.log", bytes(32)).close()
    assert open_to_others(open_place) == {}
    (open_place / "receipts.log").chmod(0o644)
    ReceiptLog.open(open_place / "receipts.log", bytes(32)).close()
    assert open_to_others(open_place) == {}


@pytest.mark.parametrize("tool", [("anchorhold.command", "demo"), ("devnet.demo.governance",)])
def test_all_that_a_demo_leaves(tmp_path: Path, tool: tuple[str, ...]) -> None:
    """Prompts, answers, databases: nothing of it is for others, whatever is public of it."""
    ended = subprocess.run(
        [sys.executable, "-m", *tool],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        check=False,
        umask=0,
    )
    assert ended.returncode == 0, ended.stderr
    [made] = (tmp_path / "build").iterdir()
    assert stat.S_IMODE(made.stat().st_mode) == 0o700
    kept = [path for path in made.rglob("*") if "broker.db" in path.name or path.suffix in {".log", ".anchorhold"}]
    assert kept
    assert {stat.S_IMODE(path.stat().st_mode) for path in kept} == {0o600}


# ---- the helper


def test_no_link_is_followed_and_nothing_is_written_over(tmp_path: Path) -> None:
    target = tmp_path / "target"
    target.write_bytes(b"theirs")
    (tmp_path / "link").symlink_to(target)
    with pytest.raises(FileExistsError):
        private_files.write_new(tmp_path / "link", b"ours")
    with pytest.raises(OSError, match="symbolic"):
        private_files.open_or_make(tmp_path / "link")
    with pytest.raises(FileExistsError):
        private_files.write_new(target, b"ours")
    assert target.read_bytes() == b"theirs"


def test_whoever_had_a_file_open_does_not_get_what_takes_its_place(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"before")
    path.chmod(0o644)
    with path.open("rb") as theirs:
        private_files.replace(path, b"after")
        assert theirs.read() == b"before"
    assert (path.read_bytes(), modes(tmp_path)) == (b"after", {"file": 0o600})


def test_a_secret_is_not_shown_by_a_failed_write(tmp_path: Path) -> None:
    secret = Secret(b"a very secret word")
    with pytest.raises(FileNotFoundError) as caught:
        private_files.write_new(tmp_path / "none" / "file", secret.reveal())
    assert "secret word" not in str(caught.value)


def test_private_files_are_made_in_one_place() -> None:
    """Nobody else makes a file by its flags, or says what mode one has."""
    allowed = {
        "foundation/private_files.py",
        "measurements/pack/disk.py",  # a sealed pack, which is public
        "attestation/tee/configfs.py",  # a folder of the kernel's
        "vsock_bridge/transport.py",  # a socket; this room imports none of ours
    }
    found = set()
    for room in ROOMS:
        for path in sorted((ROOT / room).rglob("*.py")):
            nodes = list(ast.walk(ast.parse(path.read_text("utf-8"))))
            names = {node.attr for node in nodes if isinstance(node, ast.Attribute)}
            modes_said = any(
                isinstance(node, ast.keyword)
                and node.arg == "mode"
                and isinstance(node.value, ast.Constant)
                and isinstance(node.value.value, int)
                for node in nodes
            )
            if names & {"O_CREAT", "umask", "chmod", "fchmod"} or modes_said:
                found.add(str(path.relative_to(ROOT)))
    assert found == allowed
