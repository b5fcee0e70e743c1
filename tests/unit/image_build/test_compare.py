"""`anchorhold image compare`: which file of an image differs first, which path in it, at which byte."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from anchorhold.command import main
from image_build.compare import Difference, first_difference
from image_build.image_manifest import ARTEFACTS


def an_image(folder: Path) -> Path:
    folder.mkdir()
    for name in ARTEFACTS:
        (folder / name).write_bytes(name.encode() * 10)
    (folder / "manifest.json").write_text(json.dumps({"profile": "release"}))
    (folder / "contents.json").write_text(
        json.dumps({"root": {"etc/a": ["x", "0644", 1, "aa"], "etc/b": ["x", "0644", 1, "bb"]}})
    )
    return folder


@pytest.fixture
def images(tmp_path: Path) -> tuple[Path, Path]:
    return an_image(tmp_path / "one"), an_image(tmp_path / "other")


def changed(name: str, at: int) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        raw = bytearray((folder / name).read_bytes())
        raw[at] ^= 1
        (folder / name).write_bytes(raw)

    return change


def another_b(folder: Path) -> None:
    said = json.loads((folder / "contents.json").read_text())
    said["root"]["etc/b"][3] = "dd"
    (folder / "contents.json").write_text(json.dumps(said))
    changed("root.img", 3)(folder)


def one_more(folder: Path) -> None:
    said = json.loads((folder / "contents.json").read_text())
    said["root"]["etc/c"] = ["x", "0644", 1, "dd"]
    (folder / "contents.json").write_text(json.dumps(said))
    (folder / "root.img").write_bytes((folder / "root.img").read_bytes() + b"more")


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda _: None, None),
        (changed("vmlinuz", 17), Difference("vmlinuz", 17)),
        (changed("root.img", 5), Difference("root.img", 5)),
        (another_b, Difference("root.img", 3, "etc/b")),
        (one_more, Difference("root.img", 80, "etc/c")),
        (lambda folder: (folder / "cmdline").write_bytes(b"cmdl"), Difference("cmdline", 4)),
        (lambda folder: (folder / "manifest.json").write_text("{ }"), Difference("manifest.json", 1)),
    ],
    ids=["nothing", "kernel", "root, no path", "a path of the root", "one path more", "shorter", "manifest"],
)
def test_the_first_difference(
    images: tuple[Path, Path], change: Callable[[Path], None], expected: Difference | None
) -> None:
    one, other = images
    change(other)
    assert first_difference(one, other) == expected


def test_the_verb_says_it_and_its_status_does(images: tuple[Path, Path], capsys: pytest.CaptureFixture[str]) -> None:
    one, other = images
    assert main(["image", "compare", str(one), str(other)]) == 0
    another_b(other)
    assert main(["image", "compare", str(one), str(other)]) == 4
    assert capsys.readouterr().out == "the same bytes\nroot.img differs first at byte 3, by etc/b\n"


def test_a_folder_that_is_no_image_is_a_usage_error(
    images: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    (images[1] / "cmdline").unlink()
    assert main(["image", "compare", *map(str, images)]) == 1
    assert "expected a folder that `anchorhold image build` wrote" in capsys.readouterr().err
