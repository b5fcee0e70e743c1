"""`anchorhold image boot --print`: what would be started, without starting it (boot.md J1 to J4)."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from anchorhold.command import main
from devnet.chip import ChipTee
from measurements.launch.launch_manifest import measure_snp
from measurements.launch.snp import signature_of
from tests.firmware import LittleFirmware


@pytest.fixture
def image(tmp_path: Path) -> Path:
    for name, content in {
        "vmlinuz": b"kernel",
        "root.img": b"root",
        "cmdline": b"a=b c",
        "firmware.fd": LittleFirmware().build(),
        "pack": b"pack",
    }.items():
        (tmp_path / name).write_bytes(content)
    return tmp_path


def boot(image: Path, *words: str) -> int:
    return main(["image", "boot", str(image), "--firmware", str(image / "firmware.fd"), "--print", *words])


@pytest.mark.parametrize(
    ("platform", "lines", "object_"),
    [("emulated", 3, "memory-backend-memfd"), ("snp", 2, "sev-snp-guest"), ("tdx", 2, "tdx-guest")],
)
def test_what_would_be_started(
    image: Path, capsys: pytest.CaptureFixture[str], platform: str, lines: int, object_: str
) -> None:
    assert boot(image, "--platform", platform, "--vcpus", "2") == 0
    said = capsys.readouterr().out.splitlines()
    assert len(said) == lines
    assert object_ in said[-2]
    assert "'a=b c'" in said[-2]
    expected = measure_snp(LittleFirmware().build(), b"kernel", b"", "a=b c").find_snp(signature_of("EPYC-v4"), 2, 1)
    assert expected is not None
    assert said[-1] == (f"# measurement {expected.hex()}" if platform != "tdx" else said[-1])


def test_sibling_threads_are_allowed_where_it_is_said(image: Path, capsys: pytest.CaptureFixture[str]) -> None:
    policies = []
    for words in ([], ["--allow-smt"]):
        assert boot(image, "--platform", "snp", *words) == 0
        policies.append("policy=0x30000," in capsys.readouterr().out)
    assert policies == [False, True]


def test_a_devnets_chip_is_made_once_and_then_measured_anew(image: Path, capsys: pytest.CaptureFixture[str]) -> None:
    devnet = image / "devnet"
    assert boot(image, "--devnet", str(devnet), "--model", str(image / "pack")) == 0
    assert "serial=anchorhold-machine" in capsys.readouterr().out
    first = (devnet / "chip.json").read_bytes()
    assert {path.name for path in devnet.iterdir()} == {"chip.json", "policy.toml", "references.toml", "root.der"}
    (image / "cmdline").write_bytes(b"another")
    assert boot(image, "--devnet", str(devnet)) == 0
    assert (devnet / "chip.json").read_bytes() == first
    ChipTee.parse(first)


@pytest.mark.parametrize("words", [["--memory", "1"], ["--vcpus", "0"], ["--guest-cid", "1"], ["--vcpu-type", "none"]])
def test_what_cannot_be_started(image: Path, capsys: pytest.CaptureFixture[str], words: list[str]) -> None:
    assert boot(image, *words) == 1
    assert "expected" in json.loads(capsys.readouterr().out)["refused"]
