"""Published evidence, read in place beside the project; tests that need it skip where it is not."""

from __future__ import annotations

import json
from datetime import datetime
from functools import cache
from pathlib import Path
from typing import Any

import pytest

FOLDER = Path(__file__).parents[3].parent / "shared" / "vectors" / "attestation"
NEEDED = pytest.mark.skipif(not FOLDER.is_dir(), reason=f"no published evidence at {FOLDER}")


@cache
def index() -> tuple[dict[str, Any], ...]:
    path = FOLDER / "index.json"
    return tuple(json.loads(path.read_bytes())) if path.is_file() else ()


def of_kind(*kinds: str) -> list[dict[str, Any]]:
    return [entry for entry in index() if entry["kind"] in kinds]


def named(entry: dict[str, Any]) -> str:
    return str(entry["file"])


def read(name: str) -> bytes:
    return (FOLDER / name).read_bytes()


def collateral(name: str) -> bytes:
    return read(name if name.endswith(".json") else f"endorsements/intel/collateral/{name}.json")


def moment(text: str) -> datetime:
    return datetime.fromisoformat(text)
