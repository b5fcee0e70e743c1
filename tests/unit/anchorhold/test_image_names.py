"""image.md I22, answer.md A25: a check of an image says by which names its model may be asked, or refuses."""

from __future__ import annotations

from pathlib import Path

import pytest

from anchorhold.verbs.image import served_as

PROFILES = Path(__file__).resolve().parents[3] / "image_build" / "profiles"
RELEASE = (PROFILES / "release" / "files" / "etc" / "anchorhold" / "cell.toml").read_text(encoding="utf-8")


@pytest.mark.parametrize("profile", ["release", "dev"])
def test_the_configuration_of_a_profile_has_names(profile: str) -> None:
    path = PROFILES / profile / "files" / "etc" / "anchorhold" / "cell.toml"
    assert served_as(path.read_bytes()) == (["scripted-1"], None)


def test_the_table_of_names_is_read_as_a_cell_reads_it() -> None:
    named = '\n[models]\n"llama3.1:8b" = "scripted-1"\n'
    assert served_as((RELEASE + named).encode()) == (["llama3.1:8b", "scripted-1"], None)
    names, refused = served_as((RELEASE + named.replace("scripted-1", "another")).encode())
    assert names == []
    assert refused is not None
    assert "models" in refused


@pytest.mark.parametrize(
    "config",
    [
        b"",
        b"\xff",
        RELEASE.replace("rrkah", "rrkbh").encode(),
        RELEASE.replace("scripted-1", "fixed-1").encode(),
        RELEASE.replace("scripted-1", "fixed-3").encode(),
    ],
)
def test_what_is_no_configuration_is_refused(config: bytes) -> None:
    assert served_as(config)[1] is not None
