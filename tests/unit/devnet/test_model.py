"""The tiny model folder: the same for the same seed, another for another, and good enough to seal."""

from __future__ import annotations

from pathlib import Path

import pytest

from devnet.model import TinyModel
from measurements.pack.folder import Folder


def contents(model: TinyModel, folder: Path) -> dict[str, bytes]:
    model.write(folder)
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_the_seed_decides_the_weights_and_nothing_else(tmp_path: Path):
    first, again = contents(TinyModel(), tmp_path / "a"), contents(TinyModel(), tmp_path / "b")
    other = contents(TinyModel(seed=2), tmp_path / "c")
    assert first == again
    assert {name for name in first if first[name] != other[name]} == {"model.safetensors"}


@pytest.mark.parametrize("shards", [1, 2, 5])
def test_every_shape_can_be_sealed(tmp_path: Path, shards: int):
    TinyModel(shards=shards).write(tmp_path / "m")
    with Folder.open(tmp_path / "m", 4096) as folder:
        assert folder.card.measured.parameters == 256 * 32 + 4 * 32 * 32 + 32
        assert folder.card.measured.dtypes == ("BF16",)


def test_a_folder_that_is_there_is_left_alone(tmp_path: Path):
    with pytest.raises(FileExistsError):
        TinyModel().write(tmp_path)
