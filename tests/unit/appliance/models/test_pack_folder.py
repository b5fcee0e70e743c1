"""A pack as a folder in memory: the cell's alone, and gone afterwards."""

from __future__ import annotations

import stat
from collections.abc import Mapping
from pathlib import Path

import pytest

from appliance.models.errors import ModelRefused
from appliance.models.folder import open_folder
from appliance.models.pack_folder import MEMORY, filesystem, laid_out
from devnet import little_model
from foundation.secrecy import Secret
from measurements.pack.errors import PackMalformed
from measurements.pack.pack_reader import open_pack
from measurements.pack.pack_writer import seal_pack

MOUNTS = Path("/proc/self/mounts").read_text("utf-8", "replace")
needs_memory = pytest.mark.skipif(filesystem(MEMORY, MOUNTS) != "tmpfs", reason=f"no tmpfs on {MEMORY} here")


class Files:
    def __init__(self, files: Mapping[str, bytes]) -> None:
        self._files = files

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(self._files)

    def file(self, name: str) -> memoryview:
        return memoryview(self._files[name])


@needs_memory
def test_a_pack_is_laid_out_for_its_owner_alone_and_removed(tmp_path: Path) -> None:
    # secrecy.md S10
    key = Secret(bytes(32))
    seal_pack(little_model.folder(), tmp_path / "pack", key, threads=1)
    with open_pack(tmp_path / "pack", key, threads=1) as pack:
        with laid_out(pack) as path:
            assert path.parent == MEMORY
            assert stat.S_IMODE(path.stat().st_mode) == 0o700
            assert {each.name: each.read_bytes() for each in path.iterdir()} == {
                name: bytes(pack.file(name)) for name in pack.names
            }
            assert {stat.S_IMODE(each.stat().st_mode) for each in path.iterdir()} == {0o600}
        assert not path.exists()


@needs_memory
def test_it_is_removed_when_the_engine_does_not_start() -> None:
    def start(path: Path) -> None:
        seen.append(path)
        assert path.is_dir()
        raise RuntimeError("no engine")

    seen: list[Path] = []
    with pytest.raises(RuntimeError, match="no engine"), laid_out(Files({"config.json": b"{}"})) as path:
        start(path)
    assert not seen[0].exists()


@needs_memory
@pytest.mark.parametrize("name", ["../config.json", "/etc/passwd", "", "..", "model.bin", "a/config.json"])
def test_no_other_name_is_written(name: str) -> None:
    before = set(MEMORY.glob("model-*"))
    with pytest.raises(PackMalformed), laid_out(Files({name: b""})):
        raise AssertionError("written")
    assert set(MEMORY.glob("model-*")) <= before


def test_a_folder_is_its_own(tmp_path: Path) -> None:
    little_model.write(tmp_path / "model")
    with open_folder(tmp_path / "model") as folder, laid_out(folder) as path:
        assert path == tmp_path / "model"
    assert path.exists()


def test_what_is_no_memory_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelRefused, match=r"folder\.memory"), laid_out(Files({"config.json": b"{}"}), tmp_path):
        raise AssertionError("written")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("mounts", "found"),
    [
        ("", "nothing mounted"),
        ("tmpfs /dev/shm tmpfs rw 0 0\n", "tmpfs"),
        ("tmpfs /dev/shm tmpfs rw 0 0\n/dev/vda /dev/shm ext4 rw 0 0\n", "ext4"),
        ("tmpfs /dev/shm/below tmpfs rw 0 0\nnonsense\n\n", "nothing mounted"),
    ],
)
def test_the_last_mount_on_a_place_is_the_one_that_holds(mounts: str, found: str) -> None:
    assert filesystem(Path("/dev/shm"), mounts) == found
