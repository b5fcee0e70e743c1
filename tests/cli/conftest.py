"""What several tests of the command start from."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.owners import ID, init


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An owner's folder as `anchorhold owner init` makes it: to be read only."""
    out = tmp_path_factory.mktemp("owner") / "mine"
    assert init(out, "--gateway", ID) == 0
    return out


@pytest.fixture
def mine(made: Path, tmp_path: Path) -> Path:
    """A copy of it, which a test may change."""
    return Path(shutil.copytree(made, tmp_path / "mine"))
