"""pack.md P17: key files that are ours alone, or refused."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from measurements.pack.errors import PackKeyRefused
from measurements.pack.keys import read_key

HEX = "0123456789abcdef" * 4


def key_file(folder: Path, content: str = HEX + "\n", mode: int = 0o600) -> Path:
    path = folder / "pack.key"
    path.write_text(content, encoding="utf-8")
    path.chmod(mode)
    return path


@pytest.mark.parametrize("content", [HEX, HEX + "\n"])
@pytest.mark.parametrize("mode", [0o600, 0o400])
def test_a_key_is_read_and_hidden(tmp_path: Path, content: str, mode: int):
    key = read_key(key_file(tmp_path, content, mode))
    assert key.reveal() == bytes.fromhex(HEX)
    assert HEX not in repr(key)


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o602, 0o601, 0o610, 0o777])
def test_a_key_others_may_touch_is_refused(tmp_path: Path, mode: int):
    with pytest.raises(PackKeyRefused, match=r"key\.permissions"):
        read_key(key_file(tmp_path, mode=mode))


@pytest.mark.parametrize(
    "content", ["", HEX[:-1], HEX + "0", HEX.upper(), HEX + "\n\n", HEX + "\r\n", " " + HEX, "x" * 64]
)
def test_another_form_is_refused_without_saying_what_it_was(tmp_path: Path, content: str):
    with pytest.raises(PackKeyRefused, match=r"key\.form") as caught:
        read_key(key_file(tmp_path, content))
    assert HEX[:8] not in str(caught.value).lower()


def test_links_and_pipes_are_no_key_files(tmp_path: Path):
    (tmp_path / "link").symlink_to(key_file(tmp_path))
    with pytest.raises(OSError, match="symbolic"):
        read_key(tmp_path / "link")
    os.mkfifo(tmp_path / "pipe", 0o600)
    with pytest.raises(PackKeyRefused, match=r"key\.file"):
        read_key(tmp_path / "pipe")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
def test_a_key_of_another_user_is_refused(tmp_path: Path):
    path = key_file(tmp_path)
    os.chown(path, 12345, -1)
    with pytest.raises(PackKeyRefused, match=r"key\.owner"):
        read_key(path)
