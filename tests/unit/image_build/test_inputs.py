"""image.md I1, I3: inputs fetched and compiled once."""

from __future__ import annotations

import hashlib
import zipfile
from pathlib import Path

import pytest

from image_build.contents import Compiled
from image_build.downloads import fetch, silent
from image_build.kernels_library import compiled
from image_build.lock import Missing, Wheel
from image_build.lock_update import _stanzas


def test_a_requirement_comes_with_its_hashes(tmp_path: Path) -> None:  # image.md I1
    (tmp_path / "r.txt").write_text(
        "# made by a tool\nfirst[extra]==1.0 \\\n    --hash=sha256:aa \\\n    --hash=sha256:bb\n    # via x\n"
        "Second==2.0 \\\n    --hash=sha256:cc\n"
    )
    found = dict(_stanzas(tmp_path / "r.txt"))
    assert found == {
        "first": "first[extra]==1.0 \\\n    --hash=sha256:aa \\\n    --hash=sha256:bb\n    # via x\n",
        "second": "Second==2.0 \\\n    --hash=sha256:cc\n\n",
    }


def test_a_wheel_that_is_not_to_be_had_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:  # image.md I1
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", "")
    wheel = Wheel("some", "1.0", "some-1.0-py3-none-any.whl", 3, hashlib.sha256(b"abc").hexdigest())
    told: list[str] = []
    with pytest.raises(Missing, match=r"some 1\.0.*anchorhold image lock"):
        fetch([wheel], tmp_path / "cache", refresh="anchorhold image lock", tell=told.append)
    assert told == ["fetching 1/1: some 1.0, 3 bytes"]
    (tmp_path / "cache" / wheel.sha256).write_bytes(b"abc")
    assert fetch([wheel], tmp_path / "cache", refresh="anchorhold image lock") == 0


def test_what_was_compiled_is_kept_by_all_that_went_in(tmp_path: Path) -> None:  # image.md I3
    """With one other byte of a source it is not what is kept: the compiler is asked, and here is none."""
    what = Compiled("x.so", "why", (), "build.py", ("*.c",))
    (tmp_path / "sources").mkdir()
    (tmp_path / "sources/x.c").write_bytes(b"int x;")
    (tmp_path / "sources/build.py").write_bytes(b"# compiles x")
    (compiler := tmp_path / "compiler").write_bytes(b"no zip")
    key = hashlib.sha256(
        b"".join(
            hashlib.sha256(part).digest()
            for part in (compiler.name.encode(), b"build.py", b"# compiles x", b"x.c", b"int x;")
        )
    ).hexdigest()
    (tmp_path / f"compiled-{key}").write_bytes(b"library")
    assert compiled(what, tmp_path / "sources", compiler, tmp_path, tell=silent) == b"library"
    (tmp_path / "sources/x.c").write_bytes(b"int y;")
    with pytest.raises(zipfile.BadZipFile):
        compiled(what, tmp_path / "sources", compiler, tmp_path, tell=silent)
    assert not list(tmp_path.glob("tmp*")), "something half done was left"
