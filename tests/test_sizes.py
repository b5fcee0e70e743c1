"""No source file has more than 500 lines, but for those that are named here with their reason."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parents[1]
LINES_MAX: Final = 500
ENDINGS: Final = {".py", ".c", ".h", ".cu", ".mo", ".mjs", ".ts"}
NOT_OURS: Final = {"build", "node_modules"}

LONGER: Final = {"gateway/src/Main.mo": "the digest of what it is compiled to is stated: a cut would be a new canister"}


def sources(folder: Path) -> Iterator[Path]:
    for path in sorted(folder.iterdir()):
        if path.is_dir() and not path.name.startswith(".") and path.name not in NOT_OURS:
            yield from sources(path)
        elif path.suffix in ENDINGS:
            yield path


def lines_of(path: Path) -> int:
    return path.read_bytes().count(b"\n")


def test_no_source_file_is_longer_than_500_lines() -> None:
    found = {path.relative_to(ROOT).as_posix(): lines_of(path) for path in sources(ROOT)}
    assert len(found) > 800
    assert {name for name, count in found.items() if count > LINES_MAX} == set(LONGER)
