"""Within attestation a class name means one thing."""

from __future__ import annotations

import ast
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path

ROOM = Path(__file__).resolve().parents[3] / "attestation"


def twice(sources: Mapping[str, str]) -> dict[str, list[str]]:
    """Public classes of one name in several modules, and where."""
    found: dict[str, list[str]] = defaultdict(list)
    for module, source in sources.items():
        for node in ast.parse(source).body:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                found[node.name].append(module)
    return {name: modules for name, modules in found.items() if len(modules) > 1}


def test_no_two_classes_have_one_name() -> None:
    sources = {path.relative_to(ROOM).as_posix(): path.read_text(encoding="utf-8") for path in ROOM.rglob("*.py")}
    assert len(sources) > 80
    assert twice(sources) == {}


def test_a_name_of_two_classes_is_seen() -> None:
    assert twice({"a": "class A: ...\nclass _B: ...", "b": "class A: ...\nclass _B: ..."}) == {"A": ["a", "b"]}
