"""The pages that lead a reader through the repository name files that are there, and link to pages that are there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
ROOMS = tuple(path.name for path in ROOT.iterdir() if path.is_dir() and not path.name.startswith("."))
PAGES = (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")))


def named_files(page: str) -> list[str]:
    """What stands between backquotes and looks like a path below one of our folders."""
    found = re.findall(r"`([a-z_]+/[A-Za-z0-9_/.-]*[A-Za-z0-9_/])`", page)
    return [path for path in found if path.split("/")[0] in ROOMS and not path.startswith("build/")]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_the_files_a_page_names_are_there(page: Path) -> None:
    assert [path for path in named_files(page.read_text("utf-8")) if not (ROOT / path).exists()] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_the_pages_a_page_links_to_are_there(page: Path) -> None:
    links = re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text("utf-8"))
    assert [link for link in links if not (page.parent / link).exists()] == []


def test_a_file_that_is_not_there_is_seen() -> None:
    assert named_files("`foundation/cbor.py`, `foundation/no_such_file.py` and `build/x.py`") == [
        "foundation/cbor.py",
        "foundation/no_such_file.py",
    ]
