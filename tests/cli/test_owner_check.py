"""`anchorhold owner check`: each part of an owner's folder is changed in turn, and found at its line."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from anchorhold.command import main
from anchorhold.owner.broker_process import open_broker
from attestation.broker.administration import forget_secret
from devnet import little_model
from foundation.digests import DIGEST_BYTES
from measurements.pack.pack_check import inspect_pack
from tests.little_engine import needs_kernels
from tests.owners import LINES, owner

pytestmark = needs_kernels


def text_of(path: Path, before: str, after: str) -> None:
    text = path.read_text("utf-8")
    assert before in text
    path.write_text(text.replace(before, after, 1), "utf-8")


def other_card(mine: Path) -> None:
    text_of(mine / "card.json", "Apache-2.0", "MIT")


def no_card(mine: Path) -> None:
    (mine / "card.json").write_text("{")


def other_key(mine: Path) -> None:
    (mine / "model.key").write_text("ab" * 32 + "\n")


def no_key(mine: Path) -> None:
    (mine / "model.key").write_bytes(bytes(32))


def open_key(mine: Path) -> None:
    (mine / "model.key").chmod(0o644)


def bit_of_the_pack(mine: Path) -> None:
    with (mine / "model.pack").open("r+b") as file:
        file.seek(-9, 2)
        byte = file.read(1)
        file.seek(-9, 2)
        file.write(bytes([byte[0] ^ 1]))


def header_of_the_pack(mine: Path) -> None:
    raw = (mine / "model.pack").read_bytes()
    (mine / "model.pack").write_bytes(raw.replace(b"Apache-2.0", b"Apache-2.1", 1))


def other_configuration(mine: Path) -> None:
    text_of(mine / "cell.toml", "plaintext = false", "plaintext = true")


def no_profile_line(mine: Path) -> None:
    text = (mine / "cell.toml").read_text()
    (mine / "cell.toml").write_text("\n".join(line for line in text.splitlines() if not line.startswith("profile")))


def other_profile_line(mine: Path) -> None:
    line = next(line for line in (mine / "cell.toml").read_text().splitlines() if line.startswith("profile"))
    text_of(mine / "cell.toml", line, f'profile = "{"00" * DIGEST_BYTES}"')


def other_engine(mine: Path) -> None:
    text_of(mine / "cell.toml", 'engine = "fixed-1"', 'engine = "torch-1"')


def other_tokenizer(mine: Path) -> None:
    line = next(line for line in (mine / "cell.toml").read_text().splitlines() if line.startswith("tokenizer"))
    text_of(mine / "cell.toml", line, f'tokenizer = "{"00" * DIGEST_BYTES}"')


def other_profile(mine: Path) -> None:
    text_of(mine / "engine-profile.json", "fixed-arithmetic-1", "fixed-arithmetic-2")


def other_digest(mine: Path) -> None:
    (mine / "cell.digest").write_text("00" * DIGEST_BYTES + "\n")


def no_digest(mine: Path) -> None:
    (mine / "cell.digest").write_text("the digest\n")


def other_broker(mine: Path) -> None:
    assert main(["broker", "init", str(mine / "other")]) == 0
    section = (mine / "broker" / "broker.toml").read_text().partition("\n[release]")
    shutil.rmtree(mine / "broker")
    (mine / "other").rename(mine / "broker")
    with (mine / "broker" / "broker.toml").open("a") as file:
        file.write("".join(section[1:]))


def other_wrapping(mine: Path) -> None:
    (mine / "broker" / "kek").write_bytes(bytes(32))


def forgotten_key(mine: Path) -> None:
    opened = open_broker(mine / "broker" / "broker.toml")
    forget_secret(opened.store, f"default/model-key/{little_model.NAME}", 1)
    opened.store.close()


def rotated_key(mine: Path) -> None:
    (mine / "new.key").write_text("cd" * 32 + "\n")
    (mine / "new.key").chmod(0o600)
    root = inspect_pack(mine / "model.pack").header.model_root.hex()
    named = ("--model-root", root, "--config", str(mine / "broker" / "broker.toml"))
    resource = f"default/model-key/{little_model.NAME}"
    assert main(["broker", "secret", "rotate", resource, "--from", str(mine / "new.key"), *named]) == 0


def forgotten_service(mine: Path) -> None:
    opened = open_broker(mine / "broker" / "broker.toml")
    forget_secret(opened.store, f"default/service-key/{little_model.NAME}", 1)
    opened.store.close()


def other_digest_at_the_broker(mine: Path) -> None:
    text_of(mine / "broker" / "broker.toml", (mine / "cell.digest").read_text().strip(), "00" * DIGEST_BYTES)


def no_release_at_the_broker(mine: Path) -> None:
    config = mine / "broker" / "broker.toml"
    config.write_text(config.read_text().partition("\n[release]")[0] + "\n")


def no_policy_at_the_broker(mine: Path) -> None:
    text_of(mine / "broker" / "broker.toml", 'policy = "strict"', 'policy = "none-such"')


@pytest.mark.parametrize(
    ("change", "held", "file", "status"),
    [
        (no_card, 0, "card.json", 1),
        (other_key, 2, "model.key", 2),
        (no_key, 1, "model.key", 2),
        (open_key, 1, "model.key", 2),
        (header_of_the_pack, 1, "model.pack", 2),
        (bit_of_the_pack, 3, "model.pack", 5),
        (other_card, 4, "card.json", 4),
        (no_profile_line, 5, "cell.toml", 1),
        (other_profile, 6, "engine-profile.json", 4),
        (other_engine, 8, "cell.toml", 4),
        (other_profile_line, 8, "cell.toml", 4),
        (other_tokenizer, 8, "cell.toml", 4),
        (other_configuration, 9, "cell.digest", 4),
        (other_digest, 9, "cell.digest", 4),
        (no_digest, 9, "cell.digest", 1),
        (other_wrapping, 10, "broker/broker.toml", 1),
        (no_policy_at_the_broker, 10, "broker/broker.toml", 1),
        (other_broker, 11, "cell.toml", 4),
        (forgotten_key, 12, "broker/broker.toml", 4),
        (rotated_key, 12, "broker/broker.toml", 4),
        (forgotten_service, 12, "broker/broker.toml", 1),
        (other_digest_at_the_broker, 13, "broker/broker.toml", 4),
        (no_release_at_the_broker, 13, "broker/broker.toml", 4),
    ],
)
def test_a_changed_part_is_found_at_its_line(
    mine: Path, capsys: pytest.CaptureFixture[str], change: Callable[[Path], None], held: int, file: str, status: int
) -> None:
    change(mine)
    capsys.readouterr()
    assert owner("check", mine) == status
    said = capsys.readouterr()
    assert [line.split()[1] for line in said.out.splitlines()] == list(LINES[:held])
    assert file == LINES[held] or change in (no_key, open_key)  # a key is read before the pack that it opens
    assert said.err.startswith(f"anchorhold: owner: {file}: ")
    assert said.err.count("\n") == 1
    assert "; " in said.err  # and what to do


@pytest.mark.parametrize("name", sorted({*LINES, "broker/kek", "broker/broker.db", "broker/references.toml"}))
def test_a_missing_part_is_named(mine: Path, capsys: pytest.CaptureFixture[str], name: str) -> None:
    (mine / name).unlink()
    assert owner("check", mine) == 1
    said = capsys.readouterr().err
    assert said.startswith(f"anchorhold: owner: {name if name in LINES else 'broker/broker.toml'}: ")
    assert Path(name).name in said


def test_a_profile_that_does_not_hold_here_is_found(mine: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """As after an update of the engine: the pack and the file beside it have the profile of another."""
    key = ("--key", str(mine / "model.key"))
    assert main(["pack", "open", str(mine / "model.pack"), str(mine / "model"), *key]) == 0
    profile = json.loads((mine / "engine-profile.json").read_bytes())
    profile["settings"]["kernels"] = "ff" * DIGEST_BYTES
    for place in (mine, mine / "model"):
        (place / "engine-profile.json").write_text(json.dumps(profile))
    shutil.copy(mine / "card.json", mine / "model")
    (mine / "model.pack").unlink()
    assert main(["pack", "seal", str(mine / "model"), str(mine / "model.pack"), *key]) == 0
    capsys.readouterr()
    assert owner("check", mine) == 4
    said = capsys.readouterr()
    assert [line.split()[1] for line in said.out.splitlines()] == list(LINES[:7])
    assert LINES[7] == "engine-profile.json"
    assert said.err.startswith("anchorhold: owner: engine-profile.json: profile.drift: ")
    assert "owner init" in said.err
