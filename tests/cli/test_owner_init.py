"""`anchorhold owner init` as an owner types it: what is made, what is asked, and what leaves nothing behind."""

from __future__ import annotations

import io
import json
import os
import shutil
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from anchorhold.command import main
from anchorhold.owner import owner_folder
from anchorhold.owner.broker_process import open_broker
from anchorhold.owner.owner_check import check
from appliance.config import MeasuredConfig, config_digest
from attestation.consensus.roots import MAINNET_ROOT_KEY
from devnet import little_model, machine
from devnet.subnet import GATEWAY, Subnet
from measurements.pack.identity import Identity
from measurements.pack.pack_check import inspect_pack
from tests.little_engine import needs_kernels
from tests.owners import ID, LINES, init, owner

pytestmark = needs_kernels


def test_all_parts_are_there_and_fit(made: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert {path.name for path in made.iterdir()} == {
        "broker",
        "card.json",
        "cell.digest",
        "cell.toml",
        "engine-profile.json",
        "model.key",
        "model.pack",
    }
    assert owner("check", made) == 0
    said = capsys.readouterr()
    assert [line.split()[:2] for line in said.out.splitlines()] == [["ok", name] for name in LINES]
    assert said.err == ""


def test_the_configuration_is_for_the_internet_computer_unless_somebody_says_otherwise(made: Path) -> None:
    raw = (made / "cell.toml").read_bytes()
    config, identity = MeasuredConfig.parse(raw), Identity.of(inspect_pack(made / "model.pack"))
    assert (config.gateway, config.root_key, config.engine) == (GATEWAY, MAINNET_ROOT_KEY, "fixed-1")
    assert not config.plaintext
    assert config.names == {little_model.NAME}
    assert config.release is not None
    assert config.release.model_root == identity.model_root
    assert bytes.fromhex((made / "cell.digest").read_text()) == config_digest(raw)
    opened = open_broker(made / "broker" / "broker.toml")
    opened.store.close()
    assert opened.config.intended is not None
    assert opened.config.intended.measured_config == config_digest(raw)
    assert (opened.config.host, opened.config.port) == ("127.0.0.1", 8443)


def test_secrets_are_their_owners_alone(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        assert init(tmp_path / "mine", "--gateway", ID) == 0
    finally:
        os.umask(before)
    for name in ("model.key", "broker/broker.db", "broker/broker.toml", "broker/kek", "broker/tls.key"):
        assert stat.S_IMODE((tmp_path / "mine" / name).stat().st_mode) == 0o600, name
    for name in ("mine", "mine/broker"):
        assert stat.S_IMODE((tmp_path / name).stat().st_mode) == 0o700, name


def test_the_models_folder_is_only_read(tmp_path: Path) -> None:
    model = tmp_path / "model"
    shutil.copytree(little_model.folder(), model)
    (model / "engine-profile.json").write_text("not a profile: it is not used")
    (model / ".hidden").write_text("x")
    before = {path.name: (path.read_bytes(), path.stat().st_mtime_ns) for path in model.iterdir()}
    assert init(tmp_path / "mine", "--gateway", ID, model=model) == 0
    assert {path.name: (path.read_bytes(), path.stat().st_mtime_ns) for path in model.iterdir()} == before
    assert owner("check", tmp_path / "mine") == 0


def test_a_devnet_says_whom_to_believe(tmp_path: Path) -> None:
    net, subnet = tmp_path / "net", Subnet(b"an owner's devnet")
    machine.make(net / "machine", b"\x4d" * 48)
    (net / "cell.toml").write_text(
        f'gateway = "{ID}"\nroot_key = "{subnet.root_key.hex()}"\nengine = "scripted-1"\n', encoding="utf-8"
    )
    out = tmp_path / "mine"
    price = ("--price", "1", "2", "3")
    assert init(out, "--devnet", net, "--broker", "127.0.0.1:18443", "--plaintext", "--first-block", "7", *price) == 0
    config = MeasuredConfig.parse((out / "cell.toml").read_bytes())
    assert (config.gateway, config.root_key, config.plaintext) == (GATEWAY, subnet.root_key, True)
    assert (config.price.request, config.price.token_in, config.price.token_out) == (1, 2, 3)
    opened = open_broker(out / "broker" / "broker.toml")
    opened.store.close()
    assert opened.config.judging.simulated_root == (net / "machine" / "root.der").read_bytes()
    assert opened.config.port == 18443
    held = list(check(out))
    assert "from block 7 on" in held[-2].what


def test_the_broker_adds_a_release_without_being_told_its_digests(mine: Path) -> None:
    config = mine / "broker" / "broker.toml"
    add = ("broker", "release", "add", "1.0", "--measurement", "4d" * 48, "--on-my-word", "--config", str(config))
    assert main(list(add)) == 0
    opened = open_broker(config)
    with opened.store.change() as change:
        [release] = change.releases().values()
    opened.store.close()
    assert opened.config.intended is not None
    assert release.measured_config == opened.config.intended.measured_config
    assert release.model_root == inspect_pack(mine / "model.pack").header.model_root
    config.write_text(config.read_text().partition("\n[release]")[0])
    assert main(["broker", "release", "add", "1.1", *add[4:]]) == 1


def without_card(folder: Path) -> Path:
    shutil.copytree(little_model.folder(), folder)
    (folder / "card.json").unlink()
    return folder


def test_a_model_without_a_card_gets_one(tmp_path: Path) -> None:
    model = without_card(tmp_path / "mine-1")
    assert init(tmp_path / "out", "--gateway", ID, "--license", "MIT", model=model) == 0
    card = json.loads((tmp_path / "out" / "card.json").read_bytes())
    assert (card["name"], card["license"], card["family"]) == ("mine-1", "MIT", "llama")
    assert owner("check", tmp_path / "out") == 0


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_person_is_asked_for_what_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    model = without_card(tmp_path / "mine-1")
    shown = Terminal()
    monkeypatch.setattr("sys.stdin", Terminal(f"{ID}\nMIT\n"))
    monkeypatch.setattr("sys.stderr", shown)
    assert init(tmp_path / "out", model=model) == 0
    assert "the gateway canister's id: " in shown.getvalue()
    assert "the model's licence, for its card: " in shown.getvalue()
    assert json.loads((tmp_path / "out" / "card.json").read_bytes())["license"] == "MIT"
    assert little_model.NAME not in capsys.readouterr().out  # it is called as its folder is


def test_without_a_terminal_everything_that_is_missing_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO(f"{ID}\nMIT\n"))
    assert init(tmp_path / "out", model=without_card(tmp_path / "model")) == 1
    said = capsys.readouterr().err
    assert "--gateway" in said
    assert "--license" in said
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model"]


def test_a_folder_that_is_there_is_refused_by_its_name(
    mine: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = {path: path.stat().st_mtime_ns for path in mine.rglob("*")}
    assert init(mine, "--gateway", ID) == 1
    assert f"expected {mine} not to be there yet" in capsys.readouterr().err
    assert {path: path.stat().st_mtime_ns for path in mine.rglob("*")} == before
    (tmp_path / "file").write_text("x")
    assert init(tmp_path / "file", "--gateway", ID) == 1
    assert (tmp_path / "file").read_text() == "x"


def odd(folder: Path) -> None:
    (folder / "pytorch_model.bin").write_bytes(b"x")


def no_template(folder: Path) -> None:
    (folder / "chat_template.jinja").unlink()


def other_family(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_bytes())
    (folder / "config.json").write_text(json.dumps({**config, "model_type": "mamba"}))


def spaced(folder: Path) -> None:
    card = json.loads((folder / "card.json").read_bytes())
    (folder / "card.json").write_text(json.dumps({**card, "name": "two words"}))


def truncated(folder: Path) -> None:
    raw = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(raw[:-9])


def no_vocabulary(folder: Path) -> None:
    (folder / "tokenizer.json").write_text('{"model": {"type": "BPE", "vocab": {}}}')


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (odd, "--leave-out pytorch_model.bin"),
        (no_template, "chat_template.jinja"),
        (other_family, "mamba"),
        (spaced, "two words"),
        (truncated, "model.safetensors"),
        (no_vocabulary, "tokenizer"),
    ],
)
def test_a_model_that_cannot_be_served_leaves_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], change: Callable[[Path], None], says: str
) -> None:
    model = tmp_path / "model"
    shutil.copytree(little_model.folder(), model)
    change(model)
    assert init(tmp_path / "out", "--gateway", ID, model=model) == 1
    assert says in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_a_file_that_no_pack_carries_can_be_left_out(tmp_path: Path) -> None:
    model = tmp_path / "model"
    shutil.copytree(little_model.folder(), model)
    odd(model)
    assert init(tmp_path / "out", "--gateway", ID, "--leave-out", "pytorch_model.bin", model=model) == 0
    assert init(tmp_path / "not", "--gateway", ID, "--leave-out", "nothing.bin", model=model) == 1


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("--gateway", "rrkah"), "--gateway"),
        (("--gateway", ID, "--root-key", "00"), "key"),
        (("--gateway", ID, "--broker", "https://host"), "HOST:PORT"),
        (("--gateway", ID, "--broker", "host:0"), "HOST:PORT"),
        (("--gateway", ID, "--price", "-1", "0", "0"), "cycles"),
        (("--gateway", ID, "--policy", "no-such-policy"), "no-such-policy"),
        (("--gateway", ID, "--references", "no-such-file"), "no-such-file"),
        (("--gateway", ID, "--name", "x"), "card.json"),
        (("--devnet", "no-such-net"), "devnet up"),
        (("--devnet", "no-such-net", "--gateway", ID), "--gateway"),
        (("--gateway", ID, "--first-block", "0"), "--first-block"),
        (("--gateway", ID, "--engine", "scripted-1"), "--engine"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_is_made(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], words: tuple[str, ...], says: str
) -> None:
    assert init(tmp_path / "out", *words) == 1
    assert says in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_what_fails_half_way_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(owner_folder, "seal_pack", full)
    assert init(tmp_path / "out", "--gateway", ID) == 1
    assert list(tmp_path.iterdir()) == []
