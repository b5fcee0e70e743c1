"""`anchorhold measure`: what is printed, and with which status it ends (measure.md M8, M17 to M21)."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from anchorhold.command import main
from measurements.launch.launch_manifest import LaunchManifest
from measurements.launch.snp import signature_of
from tests.firmware import LittleFirmware, LittleProgram


@pytest.fixture
def image(tmp_path: Path) -> Path:
    for name, content in {
        "vmlinuz": LittleProgram().build(),
        "initrd.img": b"initrd",
        "cmdline": b"console=ttyS0",
        "firmware.fd": LittleFirmware().build(),
    }.items():
        (tmp_path / name).write_bytes(content)
    return tmp_path


def measure(image: Path, kind: str, *more: str) -> int:
    firmware = {
        "snp": ["--snp-firmware"],
        "tdx": ["--tdx-firmware"],
        "both": ["--snp-firmware", "--tdx-firmware"],
        "part": ["--snp-firmware", "--tdx-firmware"],
    }
    named = [word for option in firmware[kind] for word in (option, str(image / "firmware.fd"))]
    return main(["measure", kind, "--image", str(image), *named, *more])


@pytest.mark.parametrize("kind", ["snp", "tdx", "both"])
def test_a_manifest_is_printed(image: Path, capsys: pytest.CaptureFixture[str], kind: str) -> None:
    assert measure(image, kind) == 0
    manifest = LaunchManifest.parse(capsys.readouterr().out.removesuffix("\n").encode())
    assert bool(manifest.snp) == (kind != "tdx")
    assert (manifest.tdx is not None) == (kind != "snp")


def test_one_digest_is_printed_alone(image: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert measure(image, "snp") == 0
    manifest = LaunchManifest.parse(capsys.readouterr().out.removesuffix("\n").encode())
    assert measure(image, "snp", "--vcpu-type", "EPYC-v4", "--vcpus", "4", "--guest-features", "0x21") == 0
    expected = manifest.find_snp(signature_of("EPYC-v4"), 4, 0x21)
    assert expected is not None
    assert capsys.readouterr().out == expected.hex() + "\n"


def test_the_part_for_a_release_manifest(image: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert measure(image, "part", "--vcpu-type", "EPYC-v4", "--vcpus", "1,2") == 0
    made = json.loads(capsys.readouterr().out)
    assert [row["vcpus"] for row in made["snp"]] == [1, 2]
    assert len(made["tdx"]) == 4


@pytest.mark.parametrize(
    "words",
    [
        ["--vcpu-type", "EPYC-v4"],
        ["--vcpu-type", "none", "--vcpus", "1"],
        ["--vcpus", "0"],
        ["--vcpus", "x"],
        ["--guest-features", "0"],
    ],
)
def test_what_cannot_be_asked(image: Path, capsys: pytest.CaptureFixture[str], words: list[str]) -> None:
    assert measure(image, "snp", *words) == 1
    said = capsys.readouterr()
    assert not said.out
    assert said.err


@pytest.mark.parametrize(
    ("name", "content", "kind"),
    [
        ("firmware.fd", b"no firmware", "snp"),
        ("vmlinuz", b"no program", "tdx"),
        ("cmdline", b"two\nlines", "snp"),
        ("cmdline", b"\xff", "snp"),
    ],
)
def test_a_file_that_is_not_one_is_named(
    image: Path, capsys: pytest.CaptureFixture[str], name: str, content: bytes, kind: str
) -> None:
    (image / name).write_bytes(content)
    assert measure(image, kind) == 1
    said = capsys.readouterr()
    assert not said.out
    assert said.err.startswith("anchorhold: launch: ")
